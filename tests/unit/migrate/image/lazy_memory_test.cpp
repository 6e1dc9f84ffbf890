// SPDX-License-Identifier: Apache-2.0
// A guest without a CPU goes on while its memory is still in an image.
#include "migrate/image/lazy_memory.hpp"

#include "migrate/image/touch_order_file.hpp"
#include "tests/support/image_bench.hpp"
#include "vmm/platform_layout.hpp"
#include "vmm/userfault.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <fstream>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Gfn;
using formats::PageCount;
using tests::must;

namespace {

constexpr std::uint64_t ram_pages = 4096;
constexpr std::uint64_t filled = 4000;
/// In the machine's memory: the first page of a chunk in the middle, as every fifth page is zero.
constexpr std::uint64_t one_page = 1281;

tests::TestMachineOptions roomy() {
    tests::TestMachineOptions options;
    options.memory = formats::bytes_of(PageCount{ram_pages});
    options.allow_missing_pages();
    return options;
}

/// What the memory says of itself.
class Events {
public:
    LazyMemoryEvents listen() {
        return {
            .on_whole = [this] { note([this] { is_whole_ = true; }); },
            .on_failure =
                [this](const formats::Error& error) {
                    note([&] { failures_.push_back(error.text()); });
                }};
    }
    void await_whole() {
        std::unique_lock held{lock_};
        changed_.wait(held, [this] { return is_whole_; });
    }
    std::string await_failure(std::size_t count = 1) {
        std::unique_lock held{lock_};
        changed_.wait(held, [&] { return failures_.size() >= count; });
        return failures_[count - 1];
    }
    [[nodiscard]] std::size_t failures() {
        const std::scoped_lock held{lock_};
        return failures_.size();
    }

private:
    template <typename Change>
    void note(const Change& change) {
        const std::scoped_lock held{lock_};
        change();
        changed_.notify_all();
    }
    std::mutex lock_;
    std::condition_variable changed_;
    bool is_whole_ = false;
    std::vector<std::string> failures_;
};

/// A guest in a file, and the machine that it is restored to.
struct Bench {
    tests::RunWitness witness;
    tests::TestMachineOptions options = roomy();
    tests::TestMachine before{options, witness};
    tests::TempDirectory directory;
    std::filesystem::path file = directory.path() / "a.wimg";
    tests::TestMachine machine{options, witness};
    Events events;

    explicit Bench(
        ImageLayout layout = ImageLayout::zstd, std::optional<vmm::GenerationId> id = {}) {
        before.fill(filled);
        if (id) {
            before.boot_with(*id);
        }
        must(write_guest(
            before,
            tests::description_of(ImageExtent::whole),
            dirtylog::DirtySet{before.memory()},
            file,
            {.layout = layout}));
    }
    std::unique_ptr<LazyMemory> restore(LazyMemoryOptions how, RestoredAs as = RestoredAs::the_vm) {
        return must(restore_guest_lazily(
            must(ImageChain::open(file)), machine, as, std::move(how), events.listen()));
    }
    /// Which chunk has a page.
    [[nodiscard]] std::uint32_t chunk_of(std::uint64_t page) const {
        auto reader = must(ImageChain::open(file));
        return must(reader.page_map())->chunk_of(Gfn{page}).value();
    }
    [[nodiscard]] PageCount pages_of(std::uint32_t chunk) const {
        auto reader = must(ImageChain::open(file));
        return must(reader.page_map())->count_in(chunk);
    }
    /// The section that has the page map.
    [[nodiscard]] std::uint32_t part_of_page_map() const {
        const auto reader = must(ImageChain::open(file));
        const auto sections = reader.image().sections();
        const auto found = std::ranges::find(
            sections, formats::SectionType::page_map, [](const formats::IndexEntry& entry) {
                return entry.head.type;
            });
        return static_cast<std::uint32_t>(found - sections.begin());
    }
    /// One bit of the payload of a section.
    void flip(std::uint32_t chunk, std::uint64_t byte = 0) const {
        const auto reader = must(ImageChain::open(file));
        const auto& section = reader.image().sections()[chunk];
        const auto at = (section.offset + formats::front_length(section.head)).value() + byte;
        std::fstream bytes{file, std::ios::in | std::ios::out | std::ios::binary};
        bytes.seekg(static_cast<std::streamoff>(at));
        const auto was = bytes.get();
        bytes.seekp(static_cast<std::streamoff>(at));
        bytes.put(static_cast<char>(was ^ 1));
    }
};

std::uint64_t word_of(tests::TestMachine& machine, std::uint64_t page) {
    std::array<std::byte, sizeof(std::uint64_t)> bytes{};
    must(machine.memory().read(formats::gpa_of(Gfn{page}), bytes));
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), bytes.size());
    return word;
}

LazyMemoryStatus counted(const LazyMemory& memory) {
    while (!memory.status().is_counted) {
        std::this_thread::yield();
    }
    return memory.status();
}

bool is_possible() {
    const auto possible = vmm::Userfault::check();
    if (!possible) {
        fmt::print("SKIPPED: migrate.lazy_memory: {}\n", possible.error().text());
    }
    return possible.has_value();
}

} // namespace

TEST_SUITE("migrate.lazy_memory") {

    TEST_CASE("N02 a guest finds every page while its memory comes") {
        for (const auto [layout, prefetch] :
             {std::pair{ImageLayout::raw, Prefetch::on},
              std::pair{ImageLayout::zstd, Prefetch::on},
              std::pair{ImageLayout::zstd, Prefetch::off}}) {
            if (!is_possible()) {
                return;
            }
            Bench bench{layout};
            const auto memory = bench.restore({.prefetch = prefetch, .first = {}});
            must(bench.machine.resume());
            CHECK(bench.machine.check().empty());
            bench.events.await_whole();
            must(bench.machine.pause());
            const auto status = memory->status();
            CHECK(status.is_whole);
            CHECK(status.missing == PageCount{0});
            CHECK(status.in_image == PageCount{filled / 5 * 4});
            CHECK((prefetch == Prefetch::on || status.waits.count > 0));
            CHECK(bench.events.failures() == 0);
            CHECK(bench.machine.check().empty());
        }
    }

    TEST_CASE("N06 the image does not bring back the generation id that a new VM had") {
        const auto id = vmm::GenerationId::make();
        const auto page = formats::gfn_of(vmm::platform_layout::generation_page).value();
        for (const auto [layout, prefetch] :
             {std::pair{ImageLayout::raw, Prefetch::on},
              std::pair{ImageLayout::zstd, Prefetch::off}}) {
            if (!is_possible()) {
                return;
            }
            Bench bench{layout, id};
            // It is written although its chunk cannot be had, and nobody waits for that.
            const auto chunk = bench.chunk_of(page);
            bench.flip(chunk);
            const auto memory =
                bench.restore({.prefetch = prefetch, .first = {chunk}}, RestoredAs::new_vm);
            REQUIRE(bench.machine.generation_id());
            CHECK(bench.machine.generation_id() != id);
            CHECK(counted(*memory).in_image.value() == filled / 5 * 4 - 1);
            if (prefetch == Prefetch::on) {
                bench.events.await_failure(); // what fails after the retry would stay
            }
            bench.flip(chunk);
            memory->retry();
            must(bench.machine.resume());
            memory->hurry();
            CHECK(bench.machine.check().empty());
            bench.events.await_whole();
            CHECK(bench.machine.check().empty());
        }
    }

    TEST_CASE("N06 the VM itself goes on lazily with the generation id that it had") {
        if (!is_possible()) {
            return;
        }
        const auto id = vmm::GenerationId::make();
        Bench bench{ImageLayout::zstd, id};
        const auto memory = bench.restore({});
        bench.events.await_whole();
        CHECK(bench.machine.generation_id() == id);
        CHECK(bench.machine.check().empty());
    }

    TEST_CASE("without fetching ahead only what is touched comes, until somebody is in a hurry") {
        if (!is_possible()) {
            return;
        }
        Bench bench;
        const auto memory = bench.restore({.prefetch = Prefetch::off, .first = {}});
        CHECK(counted(*memory).missing == memory->status().in_image);
        CHECK(word_of(bench.machine, one_page) == word_of(bench.before, one_page));
        CHECK(memory->touched().chunks == std::vector{bench.chunk_of(one_page)});
        // Whoever wanted one page of a chunk goes on while the others of it are being placed.
        const auto left = memory->status().in_image - bench.pages_of(bench.chunk_of(one_page));
        CHECK(left < memory->status().in_image);
        CHECK(left > PageCount{0});
        while (memory->status().missing > left) {
            std::this_thread::yield();
        }
        std::uint64_t zero_page = 0;
        while (word_of(bench.before, zero_page) != 0) {
            ++zero_page;
        }
        CHECK(word_of(bench.machine, zero_page) == 0); // it is in no chunk
        CHECK(memory->status().missing == left);
        CHECK_FALSE(memory->status().is_whole);
        memory->hurry();
        bench.events.await_whole();
        CHECK(bench.machine.check().empty());
    }

    TEST_CASE("a page map that is wrong lets nobody see a page, and can be read again") {
        for (const auto layout : {ImageLayout::raw, ImageLayout::zstd}) {
            if (!is_possible()) {
                return;
            }
            Bench bench{layout};
            const auto part = bench.part_of_page_map();
            bench.flip(part, formats::page_map_entry_size - 1); // not where it begins
            const auto memory = bench.restore({.prefetch = Prefetch::off, .first = {}});
            const auto reason = fmt::format(
                "{}: section {} (page map): its digest does not match", bench.file.string(), part);
            CHECK(bench.events.await_failure() == reason);
            std::atomic<int> has_seen = 0;
            std::thread guest{[&] {
                CHECK(word_of(bench.machine, one_page) == word_of(bench.before, one_page));
                ++has_seen;
                CHECK(word_of(bench.machine, filled + 1) == 0); // in no chunk
                ++has_seen;
            }};
            memory->retry();
            CHECK(bench.events.await_failure(2) == reason);
            CHECK_FALSE(memory->status().is_counted);
            CHECK(has_seen == 0);
            bench.flip(part, formats::page_map_entry_size - 1); // not where it begins
            while (has_seen < 2) { // one that had begun to read may fail still
                memory->retry();
                std::this_thread::yield();
            }
            guest.join();
            memory->retry();
            CHECK(counted(*memory).in_image == PageCount{filled / 5 * 4});
            memory->hurry();
            bench.events.await_whole();
            CHECK_FALSE(memory->status().failure);
            CHECK(bench.machine.check().empty());
        }
    }

    TEST_CASE("a page of a chunk that is wrong is never seen") {
        if (!is_possible()) {
            return;
        }
        Bench bench;
        const auto memory = bench.restore({.prefetch = Prefetch::off, .first = {}});
        const auto chunk = bench.chunk_of(one_page);
        bench.flip(chunk);
        std::atomic<bool> has_seen = false;
        std::thread guest{[&] {
            CHECK(word_of(bench.machine, one_page) == word_of(bench.before, one_page));
            has_seen = true;
        }};
        const auto reason = bench.events.await_failure();
        CHECK(
            reason == fmt::format(
                          "{}: section {} (chunk of pages): its digest does not match",
                          bench.file.string(),
                          chunk));
        REQUIRE(memory->status().failure);
        CHECK(memory->status().failure->text() == reason);
        // What others wait for still comes; nothing is fetched ahead.
        CHECK(word_of(bench.machine, 1) == word_of(bench.before, 1));
        memory->hurry();
        memory->retry();
        CHECK(bench.events.await_failure(2) == reason);
        CHECK_FALSE(has_seen);
        CHECK(memory->status().waiting > 0);
        bench.flip(chunk);
        memory->retry();
        guest.join();
        bench.events.await_whole();
        CHECK_FALSE(memory->status().failure);
        CHECK(bench.machine.check().empty());
    }

    TEST_CASE("a chunk that is wrong is found ahead of the guest, too") {
        if (!is_possible()) {
            return;
        }
        Bench bench;
        bench.flip(bench.chunk_of(one_page));
        const auto memory = bench.restore({});
        CHECK(bench.events.await_failure().contains("its digest does not match"));
        CHECK(memory->status().missing > PageCount{0});
    }

    TEST_CASE("the order of the first touches is told, and fetched in the next time") {
        if (!is_possible()) {
            return;
        }
        Bench bench;
        const std::array pages{one_page, std::uint64_t{3001}, std::uint64_t{1}};
        std::vector<std::uint32_t> expected;
        {
            const auto memory = bench.restore({.prefetch = Prefetch::off, .first = {}});
            for (const auto page : pages) {
                CHECK(word_of(bench.machine, page) == word_of(bench.before, page));
                expected.push_back(bench.chunk_of(page));
            }
            CHECK(memory->touched().has_news);
            CHECK(memory->touched().chunks == expected);
        }
        tests::TestMachine again{bench.options, bench.witness};
        Events events;
        auto first = expected;
        first.insert(first.begin(), {0, 1'000'000, expected.front()}); // no chunks, and one twice
        const auto memory = must(restore_guest_lazily(
            must(ImageChain::open(bench.file)),
            again,
            RestoredAs::the_vm,
            {.first = first},
            events.listen()));
        events.await_whole();
        const auto touched = memory->touched();
        CHECK_FALSE(touched.has_news);
        CHECK(touched.chunks == expected);
    }

    TEST_CASE("an empty guest is whole at once") {
        if (!is_possible()) {
            return;
        }
        Bench bench;
        tests::TestMachine empty{bench.options, bench.witness};
        const auto file = bench.directory.path() / "empty.wimg";
        must(write_guest(
            empty,
            tests::description_of(ImageExtent::whole),
            dirtylog::DirtySet{empty.memory()},
            file,
            {}));
        const auto memory = must(restore_guest_lazily(
            must(ImageChain::open(file)),
            bench.machine,
            RestoredAs::the_vm,
            {},
            bench.events.listen()));
        bench.events.await_whole();
        CHECK(memory->status().is_whole);
    }

    TEST_CASE("where a guest cannot wait for its pages it is refused") {
        Bench bench;
        auto options = bench.options;
        options.backend.postcopy_obstacle = "no vCPU can wait here";
        tests::TestMachine machine{options, bench.witness};
        const auto refused = restore_guest_lazily(
            must(ImageChain::open(bench.file)),
            machine,
            RestoredAs::the_vm,
            {},
            bench.events.listen());
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code() == formats::ErrorCode::unsupported);
        CHECK(refused.error().text().contains("no vCPU can wait here"));
    }

    TEST_CASE("an order of touches is read back, and nothing else is taken for one") {
        const tests::TempDirectory directory;
        const auto image = directory.path() / "a.wimg";
        formats::ImageDigest root{};
        root[3] = std::byte{7};
        const std::vector<std::uint32_t> chunks{9, 3, 70000};
        CHECK(read_touch_order(image, root).empty());
        must(write_touch_order(image, root, {}));
        must(write_touch_order(image, root, chunks));
        CHECK(read_touch_order(image, root) == chunks);
        CHECK(read_touch_order(image, {}).empty());
        const auto path = touch_order_path(image);
        CHECK(path.filename() == "a.wimg.order");
        const auto good = tests::bytes_of(path);
        const auto write = [&path](const tests::ImageBytes& bytes) {
            tests::write_bytes(path, bytes);
        };
        for (std::size_t at = 0; at < good.size(); ++at) {
            auto damaged = good;
            tests::flip(damaged, at);
            write(damaged);
            CHECK_MESSAGE(read_touch_order(image, root).empty(), fmt::format("byte {}", at));
            write({good.begin(), good.begin() + static_cast<long>(at)});
            CHECK_MESSAGE(read_touch_order(image, root).empty(), fmt::format("cut at {}", at));
        }
        write(good);
        CHECK(read_touch_order(image, root) == chunks);
        CHECK_FALSE(write_touch_order(directory.path() / "nowhere" / "a.wimg", root, chunks));
    }
}
