// SPDX-License-Identifier: Apache-2.0
#include "vmm/guest_memory.hpp"

#include "tests/unit/vmm/tiny_guest.hpp"

#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <sys/mman.h>
#include <sys/stat.h>

namespace {

using namespace wherry;
using formats::Bytes;
using formats::ErrorCode;
using formats::Gfn;
using formats::Gpa;
using formats::PageCount;
using formats::PageRange;
using tests::must;
using vmm::GuestMemory;
using formats::operator""_GiB;
using formats::operator""_MiB;

PageRange pages(std::uint64_t first, std::uint64_t count) {
    return must(PageRange::make(Gfn{first}, PageCount{count}));
}

std::uint64_t host_pages_used(const GuestMemory& memory) {
    struct stat facts{};
    REQUIRE(::fstat(memory.file(), &facts) == 0);
    return static_cast<std::uint64_t>(facts.st_blocks) * 512 / formats::page_size;
}

class Recorder final : public vmm::WriteObserver {
public:
    void wrote(PageRange range) noexcept override { ranges.push_back(range); }
    std::vector<PageRange> ranges;
};

constexpr std::array<std::byte, 3> three_bytes{std::byte{1}, std::byte{2}, std::byte{3}};

} // namespace

TEST_SUITE("vmm.guest_memory") {
    TEST_CASE("RAM above 3 GiB continues at 4 GiB") {
        const auto memory = must(GuestMemory::create(5_GiB));
        REQUIRE(memory.regions().size() == 2);
        CHECK(memory.regions()[0].pages == pages(0, 3U << 18U));
        CHECK(memory.regions()[1].pages == pages(1U << 20U, 2U << 18U));
        CHECK(memory.regions()[1].file_offset == 3_GiB);
        CHECK(memory.size() == 5_GiB);
        for (const auto& region : memory.regions()) {
            CHECK(reinterpret_cast<std::uintptr_t>(region.host) % (2U << 20U) == 0);
        }
    }

    TEST_CASE("a size that is no multiple of 2 MiB, zero or absurd is refused") {
        for (const auto size : {Bytes{0}, Bytes{4096}, 3_MiB, Bytes{~0ULL << 21U}}) {
            const auto memory = GuestMemory::create(size);
            REQUIRE_FALSE(memory);
            CHECK(memory.error().code() == ErrorCode::invalid_argument);
        }
    }

    TEST_CASE("creating memory touches none of it, and its size is sealed") {
        const auto memory = must(GuestMemory::create(64_MiB));
        CHECK(host_pages_used(memory) == 0);
        CHECK(must(memory.populated()).empty());
        CHECK(::ftruncate(memory.file(), 0) != 0);
    }

    TEST_CASE("an access that leaves RAM at either end fails and names the addresses") {
        auto memory = must(GuestMemory::create(4_GiB));
        std::array<std::byte, 8> data{};
        const Gpa hole{(3_GiB).value()};
        CHECK(memory.read(hole - Bytes{8}, data));
        const auto across = memory.read(hole - Bytes{4}, data);
        REQUIRE_FALSE(across);
        CHECK(across.error().code() == ErrorCode::invalid_argument);
        CHECK(across.error().text().find("0xbffffffc") != std::string::npos);
        CHECK_FALSE(memory.write(hole, data));
        CHECK_FALSE(memory.read(Gpa{~0ULL - 3}, data));
        CHECK(memory.write(Gpa{(4_GiB).value()}, data));
        CHECK_FALSE(memory.write(Gpa{(5_GiB).value() - 4}, data));
    }

    TEST_CASE("a write is read back and announced with every page it touches") {
        auto memory = must(GuestMemory::create(2_MiB));
        Recorder recorder;
        memory.observe_writes(&recorder);
        must(memory.write(Gpa{0x1ffe}, three_bytes));
        REQUIRE(recorder.ranges.size() == 1);
        CHECK(recorder.ranges[0] == pages(1, 2));
        std::array<std::byte, 3> found{};
        must(memory.read(Gpa{0x1ffe}, found));
        CHECK(found == three_bytes);
        memory.observe_writes(nullptr);
        must(memory.write(Gpa{0}, three_bytes));
        CHECK(recorder.ranges.size() == 1);
    }

    TEST_CASE("an empty or a failed write announces nothing") {
        auto memory = must(GuestMemory::create(2_MiB));
        Recorder recorder;
        memory.observe_writes(&recorder);
        must(memory.write(Gpa{0}, {}));
        CHECK_FALSE(memory.write(Gpa{(2_MiB).value() - 1}, three_bytes));
        CHECK(recorder.ranges.empty());
        memory.observe_writes(nullptr);
    }

    TEST_CASE("populated lists exactly the touched pages of both regions") {
        auto memory = must(GuestMemory::create(4_GiB));
        must(memory.write(Gpa{5 * 4096}, three_bytes));
        must(memory.write(Gpa{6 * 4096}, three_bytes));
        must(memory.write(Gpa{(4_GiB).value() + 7 * 4096}, three_bytes));
        std::uint64_t counted = 0;
        bool has_low = false;
        bool has_high = false;
        for (const auto range : must(memory.populated())) {
            counted += range.count().value();
            has_low = has_low || range.contains(pages(5, 2));
            has_high = has_high || range.contains(Gfn{(1U << 20U) + 7});
        }
        CHECK(has_low);
        CHECK(has_high);
        CHECK(counted == host_pages_used(memory)); // 3, or more where the host uses huge pages
    }

    TEST_CASE("zeroed pages read as zero, and many give their memory back") {
        auto memory = must(GuestMemory::create(4_MiB));
        const std::vector<std::byte> full(2U << 20U, std::byte{0x77});
        must(memory.write(Gpa{0}, full));
        must(memory.zero(pages(1, 1)));
        must(memory.zero(pages(64, 256)));
        std::array<std::byte, 4096> page{};
        for (const auto& [number, expected] :
             {std::pair{0U, 0x77},
              std::pair{1U, 0},
              std::pair{2U, 0x77},
              std::pair{63U, 0x77},
              std::pair{64U, 0},
              std::pair{319U, 0},
              std::pair{320U, 0x77}}) {
            must(memory.copy_pages(pages(number, 1), page));
            CHECK(std::to_integer<int>(page[0]) == expected);
            CHECK(std::to_integer<int>(page[4095]) == expected);
        }
        must(memory.zero(pages(0, 512)));
        CHECK(host_pages_used(memory) == 0);
    }

    TEST_CASE("zeroing a few pages that were never touched gives them no memory") {
        auto memory = must(GuestMemory::create(4_MiB));
        must(memory.zero(pages(8, 3)));
        CHECK(host_pages_used(memory) == 0);
    }

    TEST_CASE("landing and copy_pages refuse what is not whole, inside one region or of its size") {
        auto memory = must(GuestMemory::create(4_GiB));
        std::vector<std::byte> room(2 * 4096);
        CHECK(must(memory.landing(pages(3, 2))).size() == 8192);
        CHECK_FALSE(memory.landing(pages((3U << 18U) - 1, 2)));
        CHECK_FALSE(memory.landing(pages(3U << 18U, 1)));
        CHECK_FALSE(memory.copy_pages(pages(0, 3), room));
        CHECK_FALSE(memory.copy_pages(pages((3U << 18U) - 1, 2), room));
    }

    TEST_CASE("taking the observer away waits for the announcement under way") {
        class Slow final : public vmm::WriteObserver {
        public:
            void wrote(PageRange /*pages*/) noexcept override {
                entered = true;
                entered.notify_all();
                release.wait(false);
                finished = true;
            }
            std::atomic<bool> entered = false;
            std::atomic<bool> release = false;
            std::atomic<bool> finished = false;
        } observer;
        auto memory = must(GuestMemory::create(2_MiB));
        memory.observe_writes(&observer);
        std::thread writer{[&] {
            CHECK(memory.write(Gpa{0}, three_bytes));
        }};
        observer.entered.wait(false);
        std::atomic<bool> was_finished = false;
        std::thread remover{[&] {
            memory.observe_writes(nullptr);
            was_finished = observer.finished.load();
        }};
        observer.release = true;
        observer.release.notify_all();
        writer.join();
        remover.join();
        CHECK(was_finished);
    }
}
