// SPDX-License-Identifier: Apache-2.0
#include "migrate/memory_survey.hpp"

#include <array>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using namespace wherry::migrate;
using formats::Gpa;
using formats::PageCount;
using formats::operator""_MiB;

namespace {

/// Writes `count` pages from `first` on; every `sparse`th one is not zero.
void fill(
    vmm::GuestMemory& memory, std::uint64_t first, std::uint64_t count, std::uint64_t sparse) {
    std::vector<std::byte> page(formats::page_size);
    for (std::uint64_t i = 0; i < count; ++i) {
        page.front() = std::byte{i % sparse == 0 ? std::uint8_t{1} : std::uint8_t{0}};
        REQUIRE(memory.write(Gpa{(first + i) * formats::page_size}, page));
    }
}

} // namespace

TEST_SUITE("migrate.memory_survey") {
    TEST_CASE("memory that nobody touched has nothing to send") {
        const auto memory = vmm::GuestMemory::create(4_MiB).value();
        const auto survey = survey_memory(memory).value();
        CHECK(survey.raw_pages == PageCount{0});
        CHECK(survey.zero_pages == PageCount{0});
    }

    TEST_CASE("a few pages are all looked at") {
        auto memory = vmm::GuestMemory::create(4_MiB).value();
        fill(memory, 10, 5, 1);
        const auto survey = survey_memory(memory).value();
        CHECK(survey.raw_pages == PageCount{5});
        CHECK(survey.zero_pages == PageCount{0});
        CHECK(survey.raw_rate.value() > 0);
        CHECK(survey.zero_rate >= survey.raw_rate);
    }

    TEST_CASE("of many, the share of zero pages is that of a sample spread over all") {
        auto memory = vmm::GuestMemory::create(128_MiB).value();
        fill(memory, 0, 16'384, 4);         // a quarter is not zero
        fill(memory, 20'000, 8'192, 8'192); // and nothing of this
        const auto survey = survey_memory(memory).value();
        CHECK(survey.raw_pages + survey.zero_pages == PageCount{24'576});
        CHECK(
            static_cast<double>(survey.raw_pages.value()) == doctest::Approx(4'096).epsilon(0.05));
    }
}
