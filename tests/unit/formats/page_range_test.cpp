// SPDX-License-Identifier: Apache-2.0
#include "formats/page_range.hpp"

#include <doctest/doctest.h>

using namespace wherry::formats;

TEST_SUITE("formats.page_range") {

    TEST_CASE("an empty run is refused") {
        CHECK(PageRange::make(Gfn{1}, PageCount{0}).error().code() == ErrorCode::invalid_argument);
    }

    TEST_CASE("a run may reach the last frame of the address space but not beyond") {
        const Gfn last{(std::uint64_t{1} << 52U) - 1};
        CHECK(PageRange::make(last, PageCount{1}));
        CHECK_FALSE(PageRange::make(last, PageCount{2}));
        CHECK_FALSE(PageRange::make(Gfn{std::uint64_t{1} << 52U}, PageCount{1}));
        CHECK_FALSE(PageRange::make(Gfn{1}, PageCount{UINT64_MAX}));
        CHECK_FALSE(PageRange::make(Gfn{UINT64_MAX}, PageCount{UINT64_MAX}));
    }

    TEST_CASE("a run contains its first frame and not its end") {
        const PageRange run = PageRange::make(Gfn{10}, PageCount{5}).value();
        CHECK(run.contains(Gfn{10}));
        CHECK(run.contains(Gfn{14}));
        CHECK_FALSE(run.contains(Gfn{15}));
        CHECK_FALSE(run.contains(Gfn{9}));
        CHECK(run.contains(PageRange::make(Gfn{14}, PageCount{1}).value()));
        CHECK_FALSE(run.contains(PageRange::make(Gfn{14}, PageCount{2}).value()));
    }

    TEST_CASE("a part of a run is counted from its first frame") {
        const PageRange run = PageRange::make(Gfn{10}, PageCount{5}).value();
        CHECK(run.part(PageCount{0}, PageCount{5}) == run);
        CHECK(
            run.part(PageCount{1}, PageCount{3}) == PageRange::make(Gfn{11}, PageCount{2}).value());
    }

} // TEST_SUITE
