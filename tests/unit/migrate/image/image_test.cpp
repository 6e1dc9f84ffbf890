// SPDX-License-Identifier: Apache-2.0
// Images of a machine without a CPU: written, read, damaged in every way, and halves of it joined.
#include "migrate/ownership/vm_id.hpp"
#include "tests/support/image_bench.hpp"
#include "tests/support/memory_disk.hpp"

#include <algorithm>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Gfn;
using formats::PageCount;
using formats::PageRange;
using tests::boundaries_of;
using tests::complaint_about;
using tests::filled_pages;
using tests::flip;
using tests::must;
using tests::reader_of;
using Bench = tests::ImageBench;
using File = tests::ImageBytes;

namespace {

/// One after the other: what is tried holds for both.
ImageOptions each_layout() {
    ImageOptions how;
    SUBCASE("zstd") {}
    SUBCASE("raw") {
        how.layout = ImageLayout::raw;
    }
    return how;
}

} // namespace

TEST_SUITE("migrate.image") {

    TEST_CASE("N01 a guest is restored as it was written") {
        Bench bench;
        const auto file = bench.whole_image();
        auto reader = reader_of(file);
        CHECK(reader.description().extent == ImageExtent::whole);
        CHECK(reader.description().plan.vm_name == "a");
        CHECK(reader.description().epoch == Epoch{6});
        must(reader.verify());
        // Zero pages and holes cost nothing.
        const auto raw = filled_pages / 5 * 4 * formats::page_size;
        CHECK(file.size() < raw + 40 * formats::image_block);

        tests::TestMachine other{bench.options, bench.witness};
        must(restore_guest(reader, other, RestoredAs::the_vm));
        CHECK(other.check().empty());
    }

    TEST_CASE("N06 a new VM has a generation id of its own, and the VM itself keeps its own") {
        Bench bench;
        const auto id = vmm::GenerationId::make();
        bench.machine.boot_with(id);
        const auto file = bench.whole_image();
        std::vector<vmm::GenerationId> seen{id};
        for (const auto as : {RestoredAs::the_vm, RestoredAs::new_vm, RestoredAs::new_vm}) {
            auto reader = reader_of(file);
            tests::TestMachine other{bench.options, bench.witness};
            must(restore_guest(reader, other, as));
            REQUIRE(other.generation_id());
            const auto known = std::ranges::count(seen, *other.generation_id());
            CHECK(known == (as == RestoredAs::the_vm ? 1 : 0));
            CHECK(other.check().empty()); // it lies where the guest looks
            seen.push_back(*other.generation_id());
        }
    }

    TEST_CASE("nothing is written to a new VM whose guest was told of no generation id") {
        Bench bench;
        auto reader = reader_of(bench.whole_image());
        tests::TestMachine other{bench.options, bench.witness};
        must(restore_guest(reader, other, RestoredAs::new_vm));
        CHECK_FALSE(other.generation_id());
        CHECK(other.check().empty());
    }

    TEST_CASE("N03 no byte of an image can be wrong unnoticed") {
        Bench bench;
        const auto how = each_layout();
        const auto file = bench.whole_image(how);
        CHECK(complaint_about(file).empty());
        for (std::size_t block = 0; block < file.size(); block += formats::image_block) {
            for (const std::size_t inside : {0U, 5U, 9U, 30U, 60U, 75U, 100U, 2000U, 4095U}) {
                auto damaged = file;
                flip(damaged, block + inside);
                const auto complaint = complaint_about(std::move(damaged));
                CHECK_MESSAGE(
                    complaint.starts_with("test.wimg: "), fmt::format("byte {}", block + inside));
            }
        }
    }

    TEST_CASE("N03 a byte that is wrong is told with its chunk") {
        Bench bench;
        const auto how = each_layout();
        auto file = bench.whole_image(how);
        const auto begins = boundaries_of(file);
        flip(file, begins.at(3) + formats::image_block * 20);
        CHECK(
            complaint_about(file) ==
            "test.wimg: section 3 (chunk of pages): its digest does not match");
    }

    TEST_CASE("N04 an image that is cut off says behind which chunk") {
        Bench bench;
        const auto how = each_layout();
        const auto file = bench.whole_image(how);
        const auto begins = boundaries_of(file);
        for (std::size_t number = 1; number < begins.size(); ++number) {
            const auto complaint =
                complaint_about({file.begin(), file.begin() + static_cast<long>(begins[number])});
            CHECK_MESSAGE(
                complaint.contains(fmt::format("it ends behind section {} (", number - 1)),
                complaint);
        }
        const auto inside = begins.at(2) + formats::image_block * 3;
        const auto complaint =
            complaint_about({file.begin(), file.begin() + static_cast<long>(inside)});
        CHECK(complaint.contains("it ends within section 2 (chunk of pages)"));
        CHECK(complaint_about({file.begin(), file.begin() + 100}).contains("too short"));
        for (const std::size_t length : {formats::image_block, file.size() - 1}) {
            const auto cut = File{file.begin(), file.begin() + static_cast<long>(length)};
            CHECK_FALSE(complaint_about(cut).empty());
        }
        auto longer = file;
        longer.resize(file.size() + formats::image_block);
        CHECK_FALSE(complaint_about(longer).empty());
    }

    TEST_CASE("N04 chunks in another order are refused") {
        Bench bench;
        const auto how = each_layout();
        bench.machine.fill(510);
        auto file = bench.whole_image(how);
        // Two equally long stretches: the descriptions and fronts of chunks 2 and 3.
        const auto begins = boundaries_of(file);
        std::swap_ranges(
            file.begin() + static_cast<long>(begins.at(2)),
            file.begin() + static_cast<long>(begins.at(2) + formats::image_block),
            file.begin() + static_cast<long>(begins.at(3)));
        CHECK(
            complaint_about(file) ==
            "test.wimg: section 2 (chunk of pages): it is out of order: section 3 stands here");
    }

    TEST_CASE("N04 a chunk of another image is refused") {
        Bench bench;
        const auto how = each_layout();
        auto file = bench.whole_image(how);
        const auto other = bench.whole_image(how);
        const auto begins = boundaries_of(file);
        REQUIRE(boundaries_of(other) == begins);
        std::copy(
            other.begin() + static_cast<long>(begins.at(2)),
            other.begin() + static_cast<long>(begins.at(3)),
            file.begin() + static_cast<long>(begins.at(2)));
        CHECK(
            complaint_about(file) ==
            "test.wimg: section 2 (chunk of pages): it is of another image");
    }

    TEST_CASE("an image is there as a whole, or nothing is") {
        Bench bench;
        tests::MemoryDisk disk;
        const auto write = [&]() -> formats::Status {
            auto file = NewImageFile::create(disk.directory(), "x.wimg");
            if (!file) {
                return formats::fail(std::move(file).error());
            }
            auto description = tests::description_of(ImageExtent::whole);
            const auto named = description.plan;
            description.plan = plan_for(bench.machine);
            description.plan.vm_id = named.vm_id;
            auto writer = ImageWriter::begin(*file, description, {});
            if (!writer) {
                return formats::fail(std::move(writer).error());
            }
            return formats::then(
                writer->add_machine_state(File(100)), [&] { return writer->finish(); });
        };
        std::uint64_t calls = 0;
        disk.set_script([&calls](std::uint64_t call) {
            calls = call + 1;
            return tests::DiskFault::none;
        });
        must(write());
        const auto whole = disk.bytes_of("x.wimg");
        CHECK(complaint_about(whole).empty());
        const auto last_call = calls;
        for (const auto fault :
             {tests::DiskFault::before, tests::DiskFault::after, tests::DiskFault::halfway}) {
            for (std::uint64_t at = 0; at < last_call; ++at) {
                disk.set_script({});
                must(disk.directory()->remove("x.wimg"));
                const auto begin = std::make_shared<std::optional<std::uint64_t>>();
                disk.set_script([begin, at, fault](std::uint64_t call) {
                    if (!*begin) {
                        *begin = call;
                    }
                    return call - **begin == at ? fault : tests::DiskFault::none;
                });
                const auto written = write();
                disk.set_script({});
                const auto names = must(disk.directory()->names());
                for (const auto& name : names) {
                    if (name == "x.wimg") {
                        CHECK(complaint_about(disk.bytes_of(name)).empty());
                    }
                }
                CHECK((!written || disk.has("x.wimg")));
            }
        }
    }

    TEST_CASE("a file that is there is not written over") {
        Bench bench;
        const auto path = bench.directory.path() / "x.wimg";
        must(write_guest(
            bench.machine, tests::description_of(ImageExtent::whole), bench.no_pages(), path, {}));
        const auto before = tests::bytes_of(path);
        const auto again = write_guest(
            bench.machine, tests::description_of(ImageExtent::whole), bench.no_pages(), path, {});
        REQUIRE(!again.has_value());
        CHECK(again.error().code() == formats::ErrorCode::already_exists);
        CHECK(tests::bytes_of(path) == before);
    }

    TEST_CASE("P04 both halves make the guest as it is") {
        Bench bench;
        // The source stands still as the guest went on elsewhere, with pages 100 to 199 and 300 to
        // 511 left behind; it wrote most of the others since.
        auto missing = bench.no_pages();
        missing.mark(must(PageRange::make(Gfn{100}, PageCount{100})));
        missing.mark(must(PageRange::make(Gfn{300}, PageCount{212})));
        auto source = reader_of(bench.image(
            tests::description_of(ImageExtent::source_half), bench.no_pages(), "s.wimg"));
        tests::TestMachine there{bench.options, bench.witness};
        must(restore_guest(source, there, RestoredAs::the_vm));
        const std::vector<std::byte> newer(formats::page_size, std::byte{0x77});
        const std::vector<std::byte> stale(formats::page_size, std::byte{0xee});
        must(there.memory().write(formats::gpa_of(Gfn{5}), newer));
        must(there.memory().write(formats::gpa_of(Gfn{150}), stale)); // missing: worthless
        must(there.memory().zero(must(PageRange::make(Gfn{6}, PageCount{1}))));
        const auto half = bench.directory.path() / "d.wimg";
        must(write_guest(
            there, tests::description_of(ImageExtent::destination_half), missing, half, {}));
        auto destination = reader_of(tests::bytes_of(half));
        CHECK(destination.description().absent == PageCount{312});
        CHECK(must(destination.absent()) == missing);
        must(destination.verify());

        const auto joined = bench.directory.path() / "j.wimg";
        must(join_halves(source, destination, joined, {}));
        auto whole = reader_of(tests::bytes_of(joined));
        must(whole.verify());
        CHECK(whole.description().extent == ImageExtent::whole);
        CHECK(whole.description().epoch == Epoch{6});
        tests::TestMachine back{bench.options, bench.witness};
        must(restore_guest(whole, back, RestoredAs::the_vm));
        std::vector<std::byte> have(formats::page_size);
        std::vector<std::byte> want(formats::page_size);
        for (std::uint64_t page = 0; page < 512; ++page) {
            auto& from = missing.contains(Gfn{page}) ? bench.machine : there;
            must(from.memory().read(formats::gpa_of(Gfn{page}), want));
            must(back.memory().read(formats::gpa_of(Gfn{page}), have));
            CHECK_MESSAGE(have == want, fmt::format("page {}", page));
        }
    }

    TEST_CASE("P04 halves that do not belong together are refused") {
        Bench bench;
        const auto half = [&](ImageExtent extent, auto change) {
            auto description = tests::description_of(extent);
            change(description);
            return reader_of(bench.image(description, bench.no_pages()));
        };
        const auto same = [](ImageDescription&) {
        };
        const auto refused = [&](ImageReader source, ImageReader destination) {
            const auto joined =
                join_halves(source, destination, bench.directory.path() / "never.wimg", {});
            CHECK_FALSE(std::filesystem::exists(bench.directory.path() / "never.wimg"));
            return joined ? std::string{} : joined.error().text();
        };
        const auto s = ImageExtent::source_half;
        const auto d = ImageExtent::destination_half;
        CHECK(refused(half(d, same), half(s, same)).contains("the source's half comes first"));
        CHECK(refused(half(s, same), half(s, same)).contains("comes second"));
        CHECK(refused(
                  half(s, [](ImageDescription& other) { other.migration_id = "n"; }), half(d, same))
                  .contains("of two migrations"));
        CHECK(
            refused(half(s, [](ImageDescription& other) { other.epoch = Epoch{8}; }), half(d, same))
                .contains("of two migrations"));
        CHECK(refused(
                  half(
                      s,
                      [](ImageDescription& other) { other.plan.vm_id = VmId::make().to_string(); }),
                  half(d, same))
                  .contains("of two VMs"));
    }

    TEST_CASE("K02 an image of version 1 is readable for ever") {
        auto reader = must(ImageReader::open(
            must(open_image(std::filesystem::path{WHERRY_GOLDEN_FILES} / "image_v1.wimg"))));
        must(reader.verify());
        const auto& description = reader.description();
        CHECK(description.extent == ImageExtent::destination_half);
        CHECK(description.plan.vm_name == "golden");
        CHECK(description.epoch == Epoch{6});
        CHECK(description.migration_id == "m");
        CHECK(description.absent == PageCount{2});
        CHECK(must(reader.absent()).contains(Gfn{100}));
        std::uint64_t runs = 0;
        must(reader.for_each_run([&](PageRange pages, std::span<const std::byte> bytes) {
            ++runs;
            CHECK(pages == PageRange::make(Gfn{7}, PageCount{2}));
            CHECK(bytes.front() == std::byte{0x41});
            CHECK(bytes.back() == std::byte{0x42});
            return formats::Status{};
        }));
        CHECK(runs == 1);
        CHECK_FALSE(must(reader.machine_state()).empty());
    }
}
