// SPDX-License-Identifier: Apache-2.0
#include "migrate/send_window.hpp"

#include <doctest/doctest.h>

using namespace wherry;
using formats::Bytes;
using migrate::SendWindow;

TEST_SUITE("migrate.send_window") {
    TEST_CASE("what is under way is bounded, and an acknowledgement makes room") {
        SendWindow window{Bytes{100}};
        CHECK(window.has_room(Bytes{100}));
        window.sent(Bytes{60});
        CHECK(window.has_room(Bytes{40}));
        CHECK_FALSE(window.has_room(Bytes{41}));
        CHECK(window.placed(Bytes{10}));
        CHECK(window.has_room(Bytes{50}));
        CHECK(window.in_flight() == Bytes{50});
    }

    TEST_CASE("a sending larger than the window goes when nothing is under way") {
        SendWindow window{Bytes{100}};
        CHECK(window.has_room(Bytes{500}));
        window.sent(Bytes{500});
        CHECK_FALSE(window.has_room(Bytes{1}));
        CHECK(window.placed(Bytes{500}));
        CHECK(window.has_room(Bytes{500}));
    }

    TEST_CASE("acknowledgements are sums: a later one stands for all, none goes back or ahead") {
        SendWindow window{Bytes{100}};
        window.sent(Bytes{30});
        window.sent(Bytes{30});
        CHECK(window.placed(Bytes{60}));
        CHECK(window.placed(Bytes{60}));
        CHECK(window.placed(Bytes{59}).error().code() == formats::ErrorCode::protocol);
        CHECK(window.placed(Bytes{61}).error().code() == formats::ErrorCode::protocol);
        CHECK(window.in_flight() == Bytes{0});
    }
}
