// SPDX-License-Identifier: Apache-2.0
#include "tools/json.hpp"

#include <string>

#include <doctest/doctest.h>

using namespace wherry;
using formats::ErrorCode;

TEST_SUITE("tools.json") {
    TEST_CASE("an object is one line with the names of the schema and numbers as numbers") {
        api::Vm vm;
        vm.set_name("a");
        vm.set_memory_bytes(2147483648.0);
        const auto text = tools::to_json(vm, tools::JsonLayout::one_line);
        CHECK(text.find('\n') == std::string::npos);
        CHECK(text.find("\"memory_bytes\":2147483648") != std::string::npos);
        CHECK(text.find("\"vcpus\":0") != std::string::npos);
    }

    TEST_CASE("a misspelt field is refused, naming it") {
        const auto request =
            tools::message_from_json<api::MigrateRequest>(R"({"to": "h:1", "downtme_ms": 5})");
        REQUIRE_FALSE(request.has_value());
        CHECK(request.error().code() == ErrorCode::invalid_argument);
        CHECK(request.error().text().find("downtme_ms") != std::string::npos);
    }

    TEST_CASE("an error crosses the API whole") {
        const auto sent = formats::Error{ErrorCode::authentication, "not trusted"}.at(
            formats::Phase::connect, formats::Side::destination);
        const auto received = tools::error_from(tools::failure_from(sent));
        CHECK(received.code() == sent.code());
        CHECK(received.phase() == sent.phase());
        CHECK(received.side() == sent.side());
        CHECK(received.text() == sent.text());
    }

    TEST_CASE("a code nobody knows becomes internal") {
        api::Failure failure;
        failure.set_code("of_tomorrow");
        CHECK(tools::error_from(failure).code() == ErrorCode::internal);
    }
}
