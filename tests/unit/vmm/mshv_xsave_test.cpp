// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/xsave.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <doctest/doctest.h>

namespace {

using namespace wherry;
using formats::ErrorCode;
using vmm::CpuidEntry;
using vmm::mshv::compacted_from_standard;
using vmm::mshv::standard_from_compacted;
using vmm::mshv::XsaveLayout;
using Bytes = std::vector<std::byte>;

constexpr std::size_t xstate_bv = 512;
constexpr std::size_t xcomp_bv = 520;
constexpr std::uint64_t compact = std::uint64_t{1} << 63U;

CpuidEntry
component(std::uint32_t number, std::uint32_t size, std::uint32_t at, std::uint32_t how) {
    return {
        .leaf = 0xd,
        .subleaf = number,
        .subleaf_is_significant = true,
        .eax = size,
        .ebx = at,
        .ecx = how};
}

/// A server processor's: AVX, AVX-512, PKRU; CET in supervisor form; PKRU aligned, so that the
/// compacted form has a gap.
const XsaveLayout layout{std::vector{
    component(2, 256, 576, 0),
    component(5, 64, 1088, 0),
    component(6, 512, 1152, 0),
    component(7, 1024, 1664, 0),
    component(9, 8, 2688, 0),
    component(11, 16, 0, 1),
    component(13, 100, 0, 1),
    component(14, 24, 2752, 2)}};
constexpr std::uint64_t states = 0x42e7;

void put(Bytes& area, std::size_t at, std::uint64_t value) {
    std::memcpy(&area[at], &value, sizeof(value));
}
std::uint64_t get(const Bytes& area, std::size_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, &area[at], sizeof(value));
    return value;
}

Bytes standard_area(std::uint64_t in_use, std::size_t size = 2816) {
    Bytes area(size);
    put(area, xstate_bv, in_use);
    return area;
}

Bytes must(const formats::Result<Bytes>& result) {
    REQUIRE_MESSAGE(result.has_value(), result.error().text());
    return *result;
}

} // namespace

TEST_SUITE("vmm.mshv_xsave") {

    TEST_CASE("components are packed in order, and one that wants it aligned") {
        auto standard = standard_area(3 | (1U << 2U) | (1U << 9U) | (1U << 14U));
        standard[576] = std::byte{0xa2};
        standard[2688] = std::byte{0xa9};
        standard[2752] = std::byte{0xae};
        const auto compacted = must(compacted_from_standard(standard, layout, states, 4096));
        CHECK(compacted[576] == std::byte{0xa2});
        CHECK(compacted[576 + 256] == std::byte{0xa9});
        CHECK(compacted[576 + 256 + 64] == std::byte{0xae}); // 8 bytes, and 56 to be aligned
        CHECK(compacted.size() == 576 + 256 + 64 + 24);
        CHECK(get(compacted, xstate_bv) == (3 | (1U << 2U) | (1U << 9U) | (1U << 14U)));
        CHECK(get(compacted, xcomp_bv) == (compact | get(compacted, xstate_bv)));
    }

    TEST_CASE("any standard area survives the way through the compacted form") {
        std::mt19937_64 random{7};
        for (int turn = 0; turn < 200; ++turn) {
            auto standard = standard_area((random() & states) | 3);
            const auto in_use = get(standard, xstate_bv);
            std::ranges::generate(
                standard.begin(), standard.begin() + 416, [&] { return std::byte(random()); });
            std::fill_n(&standard[28], 4, std::byte{0}); // MXCSR_MASK is the processor's
            for (unsigned number = 2; number < 15; ++number) {
                const auto* const one = layout.find(number);
                if (one != nullptr && ((in_use >> number) & 1U) != 0) {
                    std::generate_n(&standard[one->standard_offset], one->size, [&] {
                        return std::byte(random());
                    });
                }
            }
            const auto compacted = must(compacted_from_standard(standard, layout, states, 4096));
            auto back = must(standard_from_compacted(compacted, layout));
            back.resize(standard.size());
            CHECK(back == standard);
        }
    }

    TEST_CASE("a component that is present in form and initial in value becomes zero") {
        Bytes compacted(576 + 256 + 64);
        put(compacted, xstate_bv, 3 | (1U << 5U));
        put(compacted, xcomp_bv, compact | 3 | (1U << 2U) | (1U << 5U));
        std::fill_n(&compacted[576], 256, std::byte{0xff}); // AVX: stale, not in use
        compacted[576 + 256] = std::byte{0x55};             // AVX-512 masks behind it
        const auto standard = must(standard_from_compacted(compacted, layout));
        CHECK(standard[576] == std::byte{0});
        CHECK(standard[1088] == std::byte{0x55});
        CHECK(get(standard, xstate_bv) == (3 | (1U << 5U)));
        CHECK(get(standard, xcomp_bv) == 0);
    }

    TEST_CASE("x87 and SSE in their initial state are written out") {
        Bytes compacted(576, std::byte{0xff});
        put(compacted, xstate_bv, 0);
        put(compacted, xcomp_bv, compact);
        const auto standard = must(standard_from_compacted(compacted, layout));
        CHECK((get(standard, 0) & 0xffffU) == 0x37f);
        CHECK((get(standard, 24) & 0xffffffffU) == 0x1f80);
        CHECK(standard[32] == std::byte{0});
        CHECK(standard[160] == std::byte{0});
        CHECK(get(standard, xstate_bv) == 3);
    }

    TEST_CASE("an area that ends before a component in use means zeroes") {
        const auto standard = standard_area(3 | (1U << 2U), 576 + 64);
        const auto compacted = must(compacted_from_standard(standard, layout, states, 4096));
        CHECK(compacted.size() == 576 + 256);
    }

    TEST_CASE("what cannot be held is refused") {
        const auto refused = [](const auto& result) {
            return !result && result.error().code() == ErrorCode::incompatible;
        };
        // In use, and not one of the partition's; unknown to the processor; too large.
        CHECK(refused(compacted_from_standard(standard_area(3 | (1U << 9U)), layout, 0x7, 4096)));
        CHECK(
            refused(compacted_from_standard(standard_area(3 | (1U << 17U)), layout, ~0ULL, 4096)));
        CHECK(refused(compacted_from_standard(standard_area(states | 3), layout, states, 2048)));
        // A supervisor component in use that no standard area holds.
        Bytes compacted(576 + 128);
        put(compacted, xstate_bv, 3 | (1U << 13U));
        put(compacted, xcomp_bv, compact | 3 | (1U << 13U));
        CHECK(refused(standard_from_compacted(compacted, layout)));
        // CET's are MSRs as well.
        put(compacted, xstate_bv, 3 | (1U << 11U));
        put(compacted, xcomp_bv, compact | 3 | (1U << 11U));
        CHECK(get(must(standard_from_compacted(compacted, layout)), xstate_bv) == 3);
        // Areas that are none.
        CHECK_FALSE(standard_from_compacted(Bytes(575), layout));
        auto compacted_given = standard_area(3);
        put(compacted_given, xcomp_bv, compact);
        CHECK_FALSE(compacted_from_standard(compacted_given, layout, states, 4096));
        // A component that its area is too short for.
        Bytes cut(576 + 100);
        put(cut, xstate_bv, 3 | (1U << 2U));
        put(cut, xcomp_bv, compact | 3 | (1U << 2U));
        CHECK(refused(standard_from_compacted(cut, layout)));
    }
}
