// SPDX-License-Identifier: Apache-2.0
#include "formats/error_message.hpp"

#include "formats/proto/error.pb.h"

#include <doctest/doctest.h>

using namespace wherry::formats;

TEST_SUITE("formats.error_message") {

    TEST_CASE("an error survives the way over the wire") {
        const Error sent = Error{ErrorCode::incompatible, "the host has no AVX"}.at(
            Phase::plan, Side::destination);
        proto::Error message;
        to_proto(sent, Side::source, message);
        const ErrorMessage received = from_proto(message);
        CHECK(received.error.code() == ErrorCode::incompatible);
        CHECK(received.error.phase() == Phase::plan);
        CHECK(received.error.side() == Side::destination);
        CHECK(received.error.text() == "the host has no AVX");
        CHECK_FALSE(received.retryable);
    }

    TEST_CASE("an error that arose here is told as the sender's") {
        proto::Error message;
        to_proto(Error{ErrorCode::timed_out, "x"}, Side::destination, message);
        CHECK(from_proto(message).error.side() == Side::destination);
        CHECK(from_proto(message).retryable);
    }

    TEST_CASE(
        "unknown numbers become the neutral values and a missing text is said to be missing") {
        proto::Error message;
        message.set_code(4711);
        message.set_phase(99);
        message.set_side(99);
        const Error error = from_proto(message).error;
        CHECK(error.code() == ErrorCode::internal);
        CHECK(error.phase() == Phase::none);
        CHECK(error.side() == Side::local);
        CHECK(error.text() == "the peer gave no reason");
    }

    TEST_CASE("control characters and terminal escapes of the peer are not shown") {
        CHECK(sanitised("a\x1b[2Jb\nc\rd\te\x7f") == "a?[2Jb?c?d?e?");
        CHECK(sanitised(std::string_view{"a\0b", 3}) == "a?b");
        CHECK(
            sanitised("\xc2\x9b"
                      "31m") == "??31m"); // C1 CSI
    }

    TEST_CASE("valid UTF-8 stays and broken sequences become question marks") {
        CHECK(
            sanitised("Gr\xc3\xbc\xc3\x9f"
                      "e \xe2\x82\xac \xf0\x9f\x9b\xb6") == "Gr\xc3\xbc\xc3\x9f"
                                                            "e \xe2\x82\xac \xf0\x9f\x9b\xb6");
        CHECK(sanitised("\xc3") == "?");                // cut off
        CHECK(sanitised("\xc0\xaf") == "??");           // overlong
        CHECK(sanitised("\xed\xa0\x80") == "???");      // surrogate
        CHECK(sanitised("\xf5\x80\x80\x80") == "????"); // beyond Unicode
        CHECK(
            sanitised("\x80"
                      "a") == "?a"); // continuation alone
    }

    TEST_CASE("a text is cut at the limit, between characters, and the cut is shown") {
        CHECK(sanitised("12345678", 8) == "12345678");
        CHECK(sanitised("123456789", 8) == "12345...");
        CHECK(
            sanitised(
                "1234\xe2\x82\xac"
                "789",
                8) == "1234...");
        CHECK(sanitised("abc", 2).size() <= 2);
        const std::string longest = sanitised(std::string(100'000, 'x'));
        CHECK(longest.size() == error_text_limit);

        proto::Error message;
        message.set_text(std::string(100'000, 'y'));
        CHECK(from_proto(message).error.text().size() == error_text_limit);
    }

} // TEST_SUITE
