// SPDX-License-Identifier: Apache-2.0
#include "transport/endpoint.hpp"

#include <doctest/doctest.h>

using wherry::formats::ErrorCode;
using wherry::transport::Endpoint;

TEST_SUITE("transport.endpoint") {

    TEST_CASE("every documented form is read, and written so that it reads back") {
        struct Row {
            const char* text;
            const char* host;
            std::uint16_t port;
        };
        for (const auto& row :
             {Row{"127.0.0.1:7461", "127.0.0.1", 7461},
              Row{"tcp:host-b:1", "host-b", 1},
              Row{"host.example.org:65535", "host.example.org", 65535},
              Row{"[::1]:7461", "::1", 7461},
              Row{"tcp:[fe80::1]:0", "fe80::1", 0}}) {
            CAPTURE(row.text);
            const auto endpoint = Endpoint::parse(row.text);
            REQUIRE(endpoint);
            CHECK(endpoint->host == row.host);
            CHECK(endpoint->port == row.port);
            const auto again = Endpoint::parse(endpoint->to_string());
            REQUIRE(again);
            CHECK(*again == *endpoint);
        }
    }

    TEST_CASE("everything else is refused with the text and what is wrong with it") {
        struct Row {
            const char* text;
            const char* says;
        };
        for (const auto& row :
             {Row{"", "port is missing"},
              Row{"host", "port is missing"},
              Row{":7461", "host is missing"},
              Row{"host:", "not a port number"},
              Row{"host:65536", "not a port number"},
              Row{"host:-1", "not a port number"},
              Row{"host:7x", "not a port number"},
              Row{"::1:7461", "[ADDRESS]:PORT"},
              Row{"[::1]", "[ADDRESS]:PORT"},
              Row{"[host]:1", "not an IPv6 address"},
              Row{"a b:1", "not a host name"},
              Row{"unix:/run/x:1", "[ADDRESS]:PORT"},
              Row{"tcp://host:1", "not a host name"}}) {
            CAPTURE(row.text);
            const auto endpoint = Endpoint::parse(row.text);
            REQUIRE(!endpoint);
            CHECK(endpoint.error().code() == ErrorCode::invalid_argument);
            CHECK(endpoint.error().text().find(row.says) != std::string::npos);
            CHECK(endpoint.error().text().find(row.text) != std::string::npos);
        }
    }

} // TEST_SUITE
