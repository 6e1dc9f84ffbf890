// SPDX-License-Identifier: Apache-2.0
#include "migrate/host_memory.hpp"

#include <doctest/doctest.h>

using namespace wherry::migrate;
using wherry::formats::Bytes;

TEST_SUITE("migrate.host_memory") {
    TEST_CASE("an entry of /proc/meminfo is found by its whole name") {
        constexpr auto file = "MemTotal:       100 kB\nSwapMemAvailable: 3 kB\n"
                              "MemAvailable:    42 kB\n";
        CHECK(meminfo_entry(file, "MemAvailable") == Bytes{42 * 1024});
        CHECK(meminfo_entry(file, "MemTotal") == Bytes{100 * 1024});
        CHECK_FALSE(meminfo_entry(file, "Available"));
        CHECK_FALSE(meminfo_entry("MemAvailable:", "MemAvailable"));
    }

    TEST_CASE("the path in /proc/self/cgroup is the one of version 2") {
        CHECK(cgroup_path("0::/user.slice/a\n") == "/user.slice/a");
        CHECK(cgroup_path("4:memory:/x\n0::/y\n") == "/y");
        CHECK_FALSE(cgroup_path("10::/x\n"));
        CHECK_FALSE(cgroup_path(""));
    }

    TEST_CASE("this host has some memory") {
        const auto headroom = host_memory_headroom();
        REQUIRE(headroom);
        CHECK(*headroom > Bytes{1 << 20});
    }
}
