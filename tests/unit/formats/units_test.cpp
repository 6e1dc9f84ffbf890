// SPDX-License-Identifier: Apache-2.0
#include "formats/units.hpp"

#include <concepts>

#include <doctest/doctest.h>

using namespace wherry::formats;

namespace {

template <typename A, typename B>
concept addable = requires(A a, B b) { a + b; };

// What must not compile.
static_assert(!addable<Gfn, Gfn>);
static_assert(!addable<Gfn, Bytes>);
static_assert(!addable<Gpa, PageCount>);
static_assert(!addable<Bytes, PageCount>);
static_assert(!std::convertible_to<std::uint64_t, Bytes>);
static_assert(!std::convertible_to<Bytes, std::uint64_t>);
static_assert(std::same_as<decltype(Gfn{} - Gfn{}), PageCount>);
static_assert(std::same_as<decltype(Gpa{} + Bytes{}), Gpa>);

} // namespace

TEST_SUITE("formats.units") {

    TEST_CASE("bytes become pages rounded up, pages become bytes exactly") {
        CHECK(pages_for(Bytes{0}) == PageCount{0});
        CHECK(pages_for(Bytes{1}) == PageCount{1});
        CHECK(pages_for(Bytes{4096}) == PageCount{1});
        CHECK(pages_for(Bytes{4097}) == PageCount{2});
        CHECK(bytes_of(PageCount{3}) == Bytes{12288});
    }

    TEST_CASE("an address lies in the frame below it") {
        CHECK(gfn_of(Gpa{0x1fff}) == Gfn{1});
        CHECK(gfn_of(Gpa{0x2000}) == Gfn{2});
        CHECK(gpa_of(Gfn{2}) == Gpa{0x2000});
    }

    TEST_CASE("the largest number of bytes becomes pages without wrapping") {
        CHECK(pages_for(Bytes{UINT64_MAX}) == PageCount{std::uint64_t{1} << 52U});
    }

} // TEST_SUITE
