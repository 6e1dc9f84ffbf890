// SPDX-License-Identifier: Apache-2.0
#include "soft_fixture.hpp"

#include <bit>
#include <cstddef>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry::vmm;
using namespace wherry::vmm::soft_test;

namespace {

constexpr std::uint64_t first_page = 0x400; // where soft_guest_writer begins

bool is_set(const std::vector<std::uint64_t>& bitmap, std::uint64_t page) {
    return ((bitmap[page / 64] >> (page % 64)) & 1U) != 0;
}

int count(const std::vector<std::uint64_t>& bitmap) {
    int sum = 0;
    for (const std::uint64_t word : bitmap) {
        sum += std::popcount(word);
    }
    return sum;
}

std::vector<std::uint64_t> fetch(SoftGuest& guest) {
    const auto region = guest.memory->regions().front().pages;
    std::vector<std::uint64_t> bitmap(region.count().value() / 64);
    REQUIRE(guest.partition->fetch_dirty_log(region, bitmap).has_value());
    return bitmap;
}

void run_turns(SoftGuest& guest, Devices& answers, int turns) {
    int left = turns;
    answers.on_question = [&] {
        if (--left == 0) {
            guest.vcpu->kick();
        }
    };
    REQUIRE(guest.vcpu->run(answers) == ExitReason::kicked);
}

} // namespace

TEST_SUITE("vmm.soft_dirty_log") {
    TEST_CASE("exactly the pages that were written since the last reading are in the log") {
        auto guest = boot_guest("soft_dirty_log exact", writer);
        if (!guest) {
            return;
        }
        Devices answers;
        guest->set_word(0x20000, 100);
        run_turns(*guest, answers, 5);
        REQUIRE(guest->partition->start_dirty_log().has_value());
        CHECK(count(fetch(*guest)) == 0);
        for (int round = 0; round < 3; ++round) {
            run_turns(*guest, answers, 2);
            const auto bitmap = fetch(*guest);
            CHECK(count(bitmap) == 101); // its pages, and the one of its turn counter
            CHECK(is_set(bitmap, 0x20));
            for (std::uint64_t page = first_page; page < first_page + 100; ++page) {
                CHECK(is_set(bitmap, page));
            }
            CHECK(count(fetch(*guest)) == 0);
        }
        REQUIRE(guest->partition->stop_dirty_log().has_value());
        run_turns(*guest, answers, 2);
    }

    TEST_CASE("accessed and dirty bits that the walker sets in page tables are writes") {
        auto guest = boot_guest("soft_dirty_log walker", writer);
        if (!guest) {
            return;
        }
        Devices answers;
        guest->set_word(0x20000, 1);
        REQUIRE(guest->partition->start_dirty_log().has_value());
        run_turns(*guest, answers, 3);
        CHECK(is_set(fetch(*guest), 0x12)); // the page directory
    }

    TEST_CASE("the VMM's own writes open pages as the guest's do") {
        auto guest = make_guest("soft_dirty_log own");
        if (!guest) {
            return;
        }
        REQUIRE(guest->partition->start_dirty_log().has_value());
        guest->set_word(0x7000, 1);
        const auto bitmap = fetch(*guest);
        CHECK(count(bitmap) == 1);
        CHECK(is_set(bitmap, 7));
    }
}
