// SPDX-License-Identifier: Apache-2.0
// Images that come through a pipe: restored as from a file, and refused as from a file.
#include "migrate/image/image_stream.hpp"

#include "migrate/file_placement.hpp"
#include "migrate/image/guest_image.hpp"
#include "migrate/image/image_reader.hpp"
#include "tests/support/image_bench.hpp"

#include <algorithm>
#include <fstream>
#include <thread>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <sys/stat.h>
#include <unistd.h>

using namespace wherry;
using namespace wherry::migrate;
using namespace wherry::tests;

namespace {

/// Comes in pieces of any length.
class Pipe {
public:
    explicit Pipe(ImageBytes bytes) {
        REQUIRE(::pipe(ends_.data()) == 0);
        writer_ = std::thread{[file = ends_[1], bytes = std::move(bytes)] {
            std::size_t at = 0;
            for (std::size_t piece = 1; at < bytes.size(); piece = piece * 3 % 70'001 + 1) {
                const auto length = std::min(piece, bytes.size() - at);
                const auto written = ::write(file, bytes.data() + at, length);
                if (written <= 0) {
                    break; // the reader has seen enough
                }
                at += static_cast<std::size_t>(written);
            }
            ::close(file);
        }};
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    ~Pipe() {
        ::close(ends_[0]);
        writer_.join();
    }
    [[nodiscard]] std::unique_ptr<StreamSource> source() const {
        return std::make_unique<StreamSource>(ends_[0], "test.wimg");
    }

private:
    std::array<int, 2> ends_{};
    std::thread writer_;
};

/// What restoring it says; empty: nothing is wrong with it.
std::string complaint_about_stream(ImageBytes file, TestMachine& machine) {
    const Pipe pipe{std::move(file)};
    auto stream = ImageStream::open(pipe.source());
    if (!stream) {
        return stream.error().text();
    }
    FilePlacement placement{machine.memory()};
    const auto read = stream->read_guest(placement);
    return read ? "" : read.error().text();
}

struct StreamBench : ImageBench {
    TestMachine target{options, witness};
    std::string complaint(ImageBytes file) {
        return complaint_about_stream(std::move(file), target);
    }
};

} // namespace

TEST_SUITE("migrate.image_stream") {
    TEST_CASE("N01 a guest comes out of a pipe as it was written") {
        StreamBench bench;
        const auto id = vmm::GenerationId::make();
        bench.machine.boot_with(id);
        const Pipe pipe{bench.whole_image()};
        auto stream = must(ImageStream::open(pipe.source()));
        CHECK(stream.description().plan.vm_name == "a");
        must(restore_guest(stream, bench.target, RestoredAs::new_vm));
        CHECK(bench.target.check().empty());
        CHECK(bench.target.generation_id() != id);
    }

    TEST_CASE("N01 an encrypted stream is read with its key, and with no other") {
        StreamBench bench;
        // As large as sections become.
        const auto file = bench.whole_image(
            {.layout = ImageLayout::raw,
             .chunk_pages = formats::raw_pages_per_batch,
             .key = secret_of(1)});
        {
            const Pipe pipe{file};
            auto stream = must(ImageStream::open(pipe.source(), {.key = secret_of(1)}));
            must(restore_guest(stream, bench.target, RestoredAs::new_vm));
            CHECK(bench.target.check().empty());
        }
        const Pipe without{file};
        const auto closed = ImageStream::open(without.source());
        REQUIRE_FALSE(closed.has_value());
        CHECK(closed.error().text() == "test.wimg: it is encrypted: --key KEYFILE");
        const Pipe with_another{file};
        const auto wrong = ImageStream::open(with_another.source(), {.key = secret_of(2)});
        REQUIRE_FALSE(wrong.has_value());
        CHECK(wrong.error().text() == "test.wimg: it is encrypted with another key");
    }

    TEST_CASE("N03 no byte of a stream can be wrong unnoticed") {
        StreamBench bench;
        const auto file = bench.whole_image();
        CHECK(bench.complaint(file).empty());
        for (std::size_t block = 0; block < file.size(); block += 7 * formats::image_block) {
            for (const std::size_t inside : {0U, 5U, 9U, 30U, 60U, 75U, 100U, 2000U, 4095U}) {
                auto damaged = file;
                flip(damaged, block + inside);
                CHECK_MESSAGE(
                    bench.complaint(std::move(damaged)).starts_with("test.wimg: "),
                    fmt::format("byte {}", block + inside));
            }
        }
        // The end, which has what a stream only learns last.
        for (std::size_t at = file.size() - 3 * formats::image_block; at < file.size(); at += 31) {
            auto damaged = file;
            flip(damaged, at);
            CHECK_MESSAGE(!bench.complaint(std::move(damaged)).empty(), fmt::format("byte {}", at));
        }
    }

    TEST_CASE("N03 a stream that is cut off or goes on is refused") {
        StreamBench bench;
        const auto file = bench.whole_image();
        for (const auto at : boundaries_of(file)) {
            auto cut = file;
            cut.resize(at);
            CHECK(bench.complaint(cut).find("it is cut off") != std::string::npos);
        }
        auto cut = file;
        cut.resize(file.size() - 1);
        CHECK(bench.complaint(cut).find("it is cut off") != std::string::npos);
        auto longer = file;
        longer.push_back(std::byte{0});
        CHECK(bench.complaint(longer) == "test.wimg: something follows behind its trailer");
        CHECK(bench.complaint({}) == "test.wimg: it is too short to be an image");
    }

    TEST_CASE("N04 sections out of order, left out or of another image are refused") {
        StreamBench bench;
        const auto file = bench.whole_image();
        const auto begins = boundaries_of(file);
        REQUIRE(begins.size() > 4);
        auto without = file;
        without.erase(
            without.begin() + static_cast<long>(begins.at(2)),
            without.begin() + static_cast<long>(begins.at(3)));
        CHECK(
            bench.complaint(without) ==
            "test.wimg: section 2: it is out of order: section 3 stands here");
        const auto other = bench.whole_image();
        auto mixed = file;
        std::copy(
            other.begin() + static_cast<long>(begins.at(2)),
            other.begin() + static_cast<long>(begins.at(3)),
            mixed.begin() + static_cast<long>(begins.at(2)));
        CHECK(bench.complaint(mixed) == "test.wimg: section 2: it is of another image");
    }

    TEST_CASE("a file tells of its guest at its beginning, whatever follows") {
        StreamBench bench;
        const auto file = bench.directory.path() / "a.wimg";
        const auto keep = [&file](const ImageBytes& bytes) {
            std::ofstream{file, std::ios::binary}.write(
                reinterpret_cast<const char*>(bytes.data()),
                static_cast<std::streamsize>(bytes.size()));
        };
        auto bytes = bench.whole_image();
        keep(bytes);
        const auto whole = must(ImageReader::open(file));
        CHECK(must(read_beginning(file, {})).plan.config == whole.description().plan.config);
        const auto front = 3 * formats::image_block; // the header, a head and the description
        std::fill(bytes.begin() + front, bytes.end(), std::byte{0xff});
        keep(bytes);
        CHECK(must(read_beginning(file, {})).plan.config == whole.description().plan.config);
        bytes.at(front - formats::image_block) ^= std::byte{1};
        keep(bytes);
        CHECK_FALSE(read_beginning(file, {}));
        keep({});
        CHECK_FALSE(read_beginning(file, {}));
        CHECK_FALSE(read_beginning(bench.directory.path() / "none", {}));
        const auto fifo = bench.directory.path() / "fifo";
        REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
        CHECK(
            read_beginning(fifo, {}).error().text().find("is no regular file") !=
            std::string::npos);
    }

    TEST_CASE("half a guest is refused") {
        StreamBench bench;
        auto absent = bench.no_pages();
        absent.mark(must(formats::PageRange::make(formats::Gfn{3}, formats::PageCount{5})));
        const auto half = bench.image(description_of(ImageExtent::destination_half), absent);
        CHECK(bench.complaint(half).find("only the image of a whole guest") != std::string::npos);
    }
}
