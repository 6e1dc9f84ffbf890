// SPDX-License-Identifier: Apache-2.0
#include "transport/detail/record_cutter.hpp"

#include "tests/unit/transport/support.hpp"

#include <doctest/doctest.h>

namespace wherry::transport::test {
namespace {

using detail::record_size;
using Part = std::span<const std::byte>;

TEST_SUITE("transport.record_cutter") {

    TEST_CASE("all bytes come out once, in order, in full records but for the last") {
        const auto bytes = pattern(5 * record_size + 77);
        const Part all{bytes};
        for (const std::size_t header : {0UL, 1UL, 32UL, record_size - 1, record_size}) {
            CAPTURE(header);
            const std::vector<Part> parts{
                all.first(header),
                {},
                all.subspan(header, 3 * record_size),
                all.subspan(header + 3 * record_size)};
            detail::RecordBuffer staging{};
            detail::RecordCutter cutter{parts, staging};
            std::vector<std::byte> out;
            std::size_t not_full = 0;
            for (auto record = cutter.next(); !record.empty(); record = cutter.next()) {
                not_full += record.size() < record_size ? 1 : 0;
                out.insert(out.end(), record.begin(), record.end());
            }
            CHECK(out == bytes);
            CHECK(not_full == 1);
        }
    }

    TEST_CASE("a large part is lent, not copied") {
        const auto bytes = pattern(2 * record_size);
        const std::vector<Part> parts{Part{bytes}};
        detail::RecordBuffer staging{};
        detail::RecordCutter cutter{parts, staging};
        CHECK(cutter.next().data() == bytes.data());
        CHECK(cutter.next().data() == bytes.data() + record_size);
        CHECK(cutter.next().empty());
    }

    TEST_CASE("small neighbours share one record") {
        const auto bytes = pattern(300);
        const Part all{bytes};
        const std::vector<Part> parts{all.first(100), all.subspan(100, 100), all.subspan(200)};
        detail::RecordBuffer staging{};
        detail::RecordCutter cutter{parts, staging};
        CHECK(cutter.next().size() == 300);
        CHECK(cutter.next().empty());
    }

} // TEST_SUITE
} // namespace
} // namespace wherry::transport::test
