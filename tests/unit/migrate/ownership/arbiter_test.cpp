// SPDX-License-Identifier: Apache-2.0
#include "migrate/ownership/arbiter.hpp"

#include <string>

#include <doctest/doctest.h>

using namespace wherry;
using formats::ErrorCode;
using migrate::arbiter_from;

TEST_CASE("arbiter: named as users name it") {
    const auto local = arbiter_from("local");
    REQUIRE(local.has_value());
    CHECK(*local == nullptr);
    for (const std::string text :
         {"file:/srv/arbiter",
          "etcd:10.0.0.1:2379",
          "etcd:a:1,[fd00::1]:2379,b.example:3",
          "etcd:a:1,b:2?tls=/etc/wherry/etcd"}) {
        const auto arbiter = arbiter_from(text);
        REQUIRE_MESSAGE(arbiter.has_value(), arbiter.error().text());
        CHECK((*arbiter)->name() == text);
    }
}

TEST_CASE("arbiter: what is no arbiter is refused in one sentence") {
    for (const auto* text :
         {"",
          "Local",
          "file:",
          "file:relative/dir",
          "etcd:",
          "etcd:host",
          "etcd:host:2379,",
          "etcd:,host:2379",
          "etcd:host:99999",
          "etcd:https://host:2379",
          "etcd:host:2379?",
          "etcd:host:2379?tls=",
          "etcd:host:2379?tls=relative/dir",
          "etcd:host:2379?other=/dir",
          "nfs:/srv"}) {
        const auto arbiter = arbiter_from(text);
        REQUIRE(!arbiter.has_value());
        CHECK(arbiter.error().code() == ErrorCode::invalid_argument);
        CHECK(arbiter.error().text().find('\n') == std::string::npos);
    }
}
