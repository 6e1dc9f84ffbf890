// SPDX-License-Identifier: Apache-2.0
#include "formats/error.hpp"

#include <cerrno>
#include <utility>

#include <doctest/doctest.h>

using namespace wherry::formats;

TEST_SUITE("formats.error") {

    TEST_CASE("text grows from the outside in and code and origin stay") {
        const Error error = Error{ErrorCode::io, "disk on fire", {.file = "a.cpp", .line = 7}}
                                .during("saving")
                                .during("snapshot");
        CHECK(error.text() == "snapshot: saving: disk on fire");
        CHECK(error.code() == ErrorCode::io);
        CHECK(error.origin().line == 7);
    }

    TEST_CASE("the innermost phase and side win") {
        const Error error = Error{ErrorCode::io, "x"}
                                .at(Phase::precopy, Side::source)
                                .at(Phase::handover, Side::destination);
        CHECK(error.phase() == Phase::precopy);
        CHECK(error.side() == Side::source);
    }

    TEST_CASE("every known code survives the way over its number and others become internal") {
        for (std::uint32_t number = 0; number < 70'000; ++number) {
            const ErrorCode code = error_code_from(number);
            if (code != ErrorCode::internal) {
                CHECK(static_cast<std::uint32_t>(code) == number);
            }
        }
        CHECK(error_code_from(24) == ErrorCode::protocol);
        CHECK(error_code_from(43) == ErrorCode::in_doubt);
        CHECK(error_code_from(9999) == ErrorCode::internal);
        CHECK(error_code_from(65536 + 24) == ErrorCode::internal);
        CHECK(phase_from(7) == Phase::done);
        CHECK(phase_from(8) == Phase::postcopy);
        CHECK(phase_from(9) == Phase::none);
        CHECK(side_from(2) == Side::destination);
        CHECK(side_from(3) == Side::local);
    }

    TEST_CASE("a failed system call says what failed and why") {
        const Error error = system_error(ENOENT, "opening /nowhere");
        CHECK(error.text() == "opening /nowhere: No such file or directory");
        CHECK(error.code() == ErrorCode::not_found);
        CHECK(system_error(EPERM, "x").code() == ErrorCode::permission);
    }

} // TEST_SUITE
