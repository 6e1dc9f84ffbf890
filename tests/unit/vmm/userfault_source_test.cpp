// SPDX-License-Identifier: Apache-2.0
#include "vmm/userfault_source.hpp"

#include "tests/unit/vmm/fault_fixture.hpp"
#include "tests/unit/vmm/refused_calls.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

using namespace wherry;
using formats::Bytes;
using formats::ErrorCode;
using formats::Gfn;
using formats::Gpa;
using formats::PageCount;
using formats::PageRange;
using tests::arm;
using tests::filled;
using tests::Listener;
using tests::must;
using tests::page;
using tests::pages;
using vmm::GuestMemory;
using vmm::UserfaultSource;

constexpr std::uint64_t above_the_hole = std::uint64_t{1} << 20U; // 4 GiB, in pages
constexpr Bytes two_regions = Bytes{(std::uint64_t{3} << 30U) + (8U << 20U)};
constexpr std::uint64_t stale = 0x57a1e;

std::unique_ptr<UserfaultSource> source_of(GuestMemory& memory, PageCount granule = PageCount{1}) {
    auto source = UserfaultSource::open(memory, granule);
    if (!source) {
        const auto code = source.error().code();
        CHECK((code == ErrorCode::permission || code == ErrorCode::unsupported));
        fmt::print("SKIPPED: vmm.userfault_source: {}\n", source.error().text());
        return nullptr;
    }
    return *std::move(source);
}

std::uint64_t value_of(const GuestMemory& memory, std::uint64_t number) {
    std::array<std::byte, 8> bytes{};
    must(memory.read(formats::gpa_of(Gfn{number}), bytes));
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), bytes.size());
    return value;
}

/// As a receiver leaves it: through the file.
void leave(const GuestMemory& memory, std::uint64_t number, std::uint64_t value) {
    const auto& regions = memory.regions();
    const auto region = std::ranges::find_if(
        regions, [&](const auto& one) { return one.pages.contains(Gfn{number}); });
    const auto bytes = filled(value, 1);
    const auto at = region->file_offset + formats::bytes_of(Gfn{number} - region->pages.first());
    REQUIRE(
        ::pwrite(memory.file(), bytes.data(), bytes.size(), static_cast<off_t>(at.value())) ==
        static_cast<ssize_t>(bytes.size()));
}

/// What a page is to hold in the end; never zero, never stale.
std::uint64_t truth(std::uint64_t number) {
    return number * 2654435761U + 1;
}

/// From here on the thread that calls it cannot have a userfaultfd; `error` says why.
void forbid_userfault(std::uint32_t error) {
    tests::refuse_call(SYS_userfaultfd, error);
    tests::refuse_ioctl(USERFAULTFD_IOC_NEW, error);
}

/// Reads pages at random until told to stop; how many were neither right nor waited for.
std::uint64_t read_at_random(
    const GuestMemory& memory, std::uint64_t page_count, unsigned seed, std::uint64_t reads) {
    std::mt19937_64 random{seed};
    std::uint64_t wrong = 0;
    for (std::uint64_t i = 0; i < reads; ++i) {
        const std::uint64_t number = random() % page_count;
        wrong += value_of(memory, number) == truth(number) ? 0U : 1U;
    }
    return wrong;
}

} // namespace

TEST_SUITE("vmm.userfault_source") {

    TEST_CASE("pages of two regions, stale and holes, wait; their neighbours do not") {
        auto memory = must(GuestMemory::create(two_regions));
        const auto source = source_of(memory);
        if (!source) {
            return;
        }
        for (const std::uint64_t number : {1UL, 2UL, 3UL, above_the_hole + 5}) {
            leave(memory, number, stale);
        }
        CHECK(value_of(memory, 2) == stale); // in the page table: arming must take it out
        const std::array missing{pages(2, 1), pages(700, 2), pages(above_the_hole + 5, 2)};
        Listener listener;
        must(arm(*source, memory, missing, listener));
        CHECK(source->missing() == PageCount{5});
        CHECK(value_of(memory, 1) == stale);
        CHECK(value_of(memory, 3) == stale);
        CHECK(value_of(memory, 4) == 0);
        CHECK(value_of(memory, above_the_hole + 7) == 0);
        CHECK(listener.heard().empty());
        for (const PageRange run : missing) {
            for (std::uint64_t i = 0; i < run.count().value(); ++i) {
                const std::uint64_t number = run.first().value() + i;
                std::uint64_t found = stale;
                std::thread reader{[&] {
                    found = value_of(memory, number);
                }};
                listener.await(number);
                CHECK(source->wanted_pages() == std::vector{page(number)});
                CHECK(must(source->place(page(number), filled(truth(number), 1))) == PageCount{1});
                reader.join();
                CHECK(found == truth(number));
            }
        }
        CHECK(source->missing_pages().empty());
        must(source->disarm());
        CHECK(value_of(memory, 2) == truth(2));
        CHECK(value_of(memory, 1) == stale);
    }

    TEST_CASE("in memory that nobody has touched pages wait, and holes between them are zero") {
        constexpr std::uint64_t size = 4096;
        auto memory = must(GuestMemory::create(formats::bytes_of(PageCount{size})));
        const auto source = source_of(memory);
        if (!source) {
            return;
        }
        std::vector<PageRange> missing;
        for (std::uint64_t number = 0; number < size; number += 2) {
            missing.push_back(page(number));
        }
        Listener listener;
        must(arm(*source, memory, missing, listener, vmm::MemoryBefore::untouched));
        CHECK(source->missing() == PageCount{size / 2});
        std::vector<std::uint64_t> found(size, stale);
        std::thread reader{[&] {
            for (std::uint64_t number = 0; number < size; ++number) {
                found[number] = value_of(memory, number);
            }
        }};
        for (std::uint64_t number = 0; number < size; number += 2) {
            listener.await(number);
            must(source->place(page(number), filled(truth(number), 1)));
        }
        reader.join();
        for (std::uint64_t number = 0; number < size; ++number) {
            CHECK(found[number] == (number % 2 == 0 ? truth(number) : 0));
        }
        must(source->disarm());
    }

    TEST_CASE("of all memory said to be missing most is not, while somebody reads it") {
        constexpr std::uint64_t size = 4096;
        auto memory = must(GuestMemory::create(formats::bytes_of(PageCount{size})));
        const auto source = source_of(memory);
        if (!source) {
            return;
        }
        Listener listener;
        must(arm(
            *source, memory, std::array{pages(0, size)}, listener, vmm::MemoryBefore::untouched));
        std::vector<PageRange> kept;
        for (std::uint64_t number = 0; number < size; number += 64) {
            kept.push_back(page(number));
        }
        std::vector<std::uint64_t> found(size, stale);
        std::thread reader{[&] {
            for (std::uint64_t number = 0; number < size; ++number) {
                found[number] = value_of(memory, number);
            }
        }};
        // The first few by hand, one of the zeros among them at the same moment.
        for (std::uint64_t number = 0; number < 70; ++number) {
            listener.await(number);
            if (number % 64 == 0) {
                must(source->place(page(number), filled(truth(number), 1)));
            } else {
                must(source->place_zero(page(number)));
            }
        }
        const auto left = must(source->narrow(tests::bitmaps_of(memory, kept)));
        CHECK(left.size() <= 1);                // the one that the reader was at
        CHECK(value_of(memory, 0) == truth(0)); // what is there does not go missing again
        CHECK(value_of(memory, 64) == truth(64));
        for (std::uint64_t number = 128; number < size; number += 64) {
            listener.await(number);
            must(source->place(page(number), filled(truth(number), 1)));
        }
        reader.join();
        for (std::uint64_t number = 0; number < size; ++number) {
            CHECK(found[number] == (number % 64 == 0 ? truth(number) : 0));
        }
        must(source->disarm());
    }

    TEST_CASE("whoever faults at the moment at which watching ends goes on") {
        constexpr std::uint64_t size = 1024;
        for (int turn = 0; turn < 200; ++turn) {
            auto memory = must(GuestMemory::create(formats::bytes_of(PageCount{size})));
            auto source = source_of(memory);
            if (!source) {
                return;
            }
            Listener listener;
            must(arm(
                *source, memory, {{page(0), page(512)}}, listener, vmm::MemoryBefore::untouched));
            std::atomic<std::uint64_t> touched = 1;
            std::thread reader{[&] {
                for (; touched < size; ++touched) {
                    std::ignore = value_of(memory, touched == 512 ? 1 : touched.load());
                }
            }};
            while (touched < 2 + static_cast<std::uint64_t>(turn)) {
                std::this_thread::yield();
            }
            must(source->place(page(0), filled(truth(0), 1)));
            must(source->place(page(512), filled(truth(512), 1)));
            must(source->disarm());
            const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{10};
            while (touched < size && std::chrono::steady_clock::now() < end) {
                std::this_thread::yield();
            }
            const bool has_gone_on = touched == size;
            source.reset(); // lets go of whoever waits
            reader.join();
            REQUIRE(has_gone_on);
        }
    }

    TEST_CASE("a system call on guest memory waits") {
        auto memory = must(GuestMemory::create(Bytes{4U << 20U}));
        const auto source = source_of(memory);
        if (!source) {
            return;
        }
        leave(memory, 3, stale);
        Listener listener;
        must(arm(*source, memory, std::array{page(3)}, listener));
        std::array<int, 2> pipe{};
        REQUIRE(::pipe2(pipe.data(), O_CLOEXEC) == 0);
        const vmm::UniqueFd from{pipe[0]};
        const vmm::UniqueFd to{pipe[1]};
        const std::byte* const host = memory.regions()[0].host + 3 * formats::page_size;
        std::thread writer{[&] {
            CHECK(::write(to.get(), host, sizeof(std::uint64_t)) == sizeof(std::uint64_t));
        }};
        listener.await(3);
        must(source->place(page(3), filled(truth(3), 1)));
        writer.join();
        std::uint64_t value = 0;
        REQUIRE(::read(from.get(), &value, sizeof(value)) == sizeof(value));
        CHECK(value == truth(3));
        must(source->disarm());
    }

    TEST_CASE("a source with a granule wants all that is missing of it, each page once") {
        auto memory = must(GuestMemory::create(Bytes{8U << 20U}));
        const auto source = source_of(memory, PageCount{512});
        if (!source) {
            return;
        }
        Listener listener;
        must(arm(*source, memory, std::array{pages(500, 20), page(900), page(1500)}, listener));
        std::thread reader{[&] {
            CHECK(value_of(memory, 513) == truth(513));
        }};
        listener.await(900);
        CHECK(listener.heard().size() == 9); // 512 to 519, and 900
        must(source->place(page(513), filled(truth(513), 1)));
        reader.join();
        std::thread other{[&] {
            CHECK(value_of(memory, 514) == truth(514));
        }};
        must(source->place(page(514), filled(truth(514), 1)));
        other.join();
        CHECK(listener.twice() == 0);
        must(source->place_zero(pages(0, 2048)));
        must(source->disarm());
    }

    TEST_CASE("whatever the order of touching, pushing and answering, only the truth is seen") {
        constexpr std::uint64_t size = 4096;
        auto memory = must(GuestMemory::create(formats::bytes_of(PageCount{size})));
        const auto source = source_of(memory);
        if (!source) {
            return;
        }
        std::mt19937_64 random{3};
        std::vector<PageRange> missing;
        for (std::uint64_t number = 0; number < size; ++number) {
            const auto kind = random() % 3;
            if (kind == 0) {
                leave(memory, number, truth(number));
                continue;
            }
            if (kind == 1) {
                leave(memory, number, stale);
            }
            missing.push_back(page(number));
        }
        Listener listener;
        must(arm(*source, memory, missing, listener));
        std::array<std::uint64_t, 3> wrong{};
        std::vector<std::thread> threads;
        for (unsigned reader = 0; reader < wrong.size(); ++reader) {
            threads.emplace_back(
                [&, reader] { wrong[reader] = read_at_random(memory, size, reader, 20'000); });
        }
        // Two that push everything, what is not missing too, in opposite directions.
        std::atomic<std::uint64_t> placed = 0;
        for (const bool is_forward : {true, false}) {
            threads.emplace_back([&, is_forward] {
                for (std::uint64_t i = 0; i < size; i += 4) {
                    const std::uint64_t first = is_forward ? i : size - 4 - i;
                    std::vector<std::byte> bytes;
                    for (std::uint64_t one = first; one < first + 4; ++one) {
                        const auto contents = filled(truth(one), 1);
                        bytes.insert(bytes.end(), contents.begin(), contents.end());
                    }
                    placed += must(source->place(pages(first, 4), bytes)).value();
                }
            });
        }
        for (auto& thread : threads) {
            thread.join();
        }
        CHECK(wrong == std::array<std::uint64_t, 3>{});
        CHECK(placed == missing.size());
        CHECK(listener.twice() == 0);
        must(source->disarm());
        CHECK(read_at_random(memory, size, 9, size) == 0);
    }

    TEST_CASE("where userfaultfd is forbidden or absent it is refused, with the remedy") {
        std::thread restricted{[] {
            forbid_userfault(EPERM);
            const auto checked = vmm::Userfault::check();
            REQUIRE_FALSE(checked);
            CHECK(checked.error().code() == ErrorCode::permission);
            CHECK(checked.error().text().find("/dev/userfaultfd") != std::string::npos);
            auto memory = must(GuestMemory::create(Bytes{2U << 20U}));
            CHECK(UserfaultSource::open(memory).error().code() == ErrorCode::permission);
            const auto soft = vmm::probe(vmm::HypervisorChoice::soft);
            CHECK((!soft || soft->postcopy_obstacle == checked.error().text()));
        }};
        restricted.join();
        std::thread without{[] {
            forbid_userfault(ENOSYS);
            CHECK(vmm::Userfault::check().error().code() == ErrorCode::unsupported);
        }};
        without.join();
    }

} // TEST_SUITE
