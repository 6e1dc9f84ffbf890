// SPDX-License-Identifier: Apache-2.0
#include "migrate/postcopy/push_order.hpp"

#include <array>
#include <random>

#include <doctest/doctest.h>

namespace wherry::migrate {
namespace {

using formats::Gfn;
using formats::PageCount;
using formats::PageRange;

PageRange pages(std::uint64_t first, std::uint64_t count) {
    return PageRange::make(Gfn{first}, PageCount{count}).value();
}

dirtylog::DirtySet all_of(std::span<const PageRange> ram) {
    dirtylog::DirtySet set{ram};
    set.mark_all();
    return set;
}

TEST_SUITE("migrate.push_order") {
    TEST_CASE("without faults pages go out ascending, each once") {
        const std::array ram{pages(0, 1000), pages(4096, 1000)};
        PushOrder order{all_of(ram)};
        CHECK(order.left() == PageCount{2000});
        Gfn last{0};
        PageCount taken;
        while (true) {
            const auto runs = order.take(PageCount{64});
            if (runs.empty()) {
                break;
            }
            for (const PageRange run : runs) {
                CHECK(run.first() >= last);
                last = run.end();
                taken += run.count();
            }
        }
        CHECK(taken == PageCount{2000});
        CHECK(order.left() == PageCount{0});
    }

    TEST_CASE("what follows a fault comes before the rest, the fault itself not again") {
        const std::array ram{pages(0, 10'000)};
        PushOrder order{all_of(ram)};
        order.on_fault(pages(5000, 1));
        const auto runs = order.take(PageCount{16});
        REQUIRE(runs.size() == 1);
        CHECK(runs[0] == pages(5001, 16));
        CHECK(order.left() == PageCount{10'000 - 17});
    }

    TEST_CASE("the latest fault comes first, and the one before it is not forgotten") {
        const std::array ram{pages(0, 100'000)};
        PushOrder order{all_of(ram)};
        order.on_fault(pages(10'000, 1));
        order.on_fault(pages(50'000, 1));
        CHECK(order.take(PageCount{512}).front() == pages(50'001, 512));
        CHECK(order.take(PageCount{512}).front() == pages(10'001, 512));
        CHECK(order.take(PageCount{8}).front() == pages(0, 8));
    }

    TEST_CASE("more walks than are followed: the oldest makes way") {
        const std::array ram{pages(0, 100'000)};
        PushOrder order{all_of(ram)};
        for (std::uint64_t i = 0; i <= PushOrder::walks_limit; ++i) {
            order.on_fault(pages(10'000 * (i + 1), 1));
        }
        std::vector<Gfn> starts;
        for (std::size_t i = 0; i < PushOrder::walks_limit; ++i) {
            starts.push_back(order.take(PushOrder::reach).front().first());
        }
        CHECK(starts.front() == Gfn{90'001});
        CHECK(starts.back() == Gfn{20'001});
        CHECK(order.take(PageCount{1}).front() == pages(0, 1));
    }

    TEST_CASE("a fault on a page that is on its way already only moves the push") {
        const std::array ram{pages(0, 1000)};
        PushOrder order{all_of(ram)};
        CHECK(order.take(PageCount{600}).front() == pages(0, 600));
        order.on_fault(pages(10, 1));
        CHECK(order.left() == PageCount{400});
        CHECK(order.take(PageCount{10}).front() == pages(600, 10));
    }

    TEST_CASE("after a lost connection exactly what is missing is pushed, again") {
        const std::array ram{pages(0, 1000)};
        PushOrder order{all_of(ram)};
        CHECK(order.take(PageCount{1000}).front() == pages(0, 1000));
        CHECK(order.left() == PageCount{0});
        dirtylog::DirtySet missing{ram};
        missing.mark(pages(3, 2));
        missing.mark(pages(900, 1));
        order.restart(missing);
        CHECK(order.left() == PageCount{3});
        const auto runs = order.take(PageCount{10});
        REQUIRE(runs.size() == 2);
        CHECK(runs[0] == pages(3, 2));
        CHECK(runs[1] == pages(900, 1));
    }

    TEST_CASE("whatever the faults, no page is handed out twice or forgotten") {
        std::mt19937 random{7};
        const std::array ram{pages(0, 3000), pages(5000, 2000)};
        for (int round = 0; round < 50; ++round) {
            dirtylog::DirtySet wanted{ram};
            for (int i = 0; i < 400; ++i) {
                wanted.mark(pages(random() % 7000, 1 + random() % 9));
            }
            PushOrder order{wanted};
            dirtylog::DirtySet seen{ram};
            while (order.left() > PageCount{0}) {
                if (random() % 3 == 0) {
                    const auto fault = pages(random() % 7000, 1 + random() % 3);
                    dirtylog::DirtySet answered{ram};
                    answered.mark(fault);
                    seen.merge(answered); // answered by itself
                    order.on_fault(fault);
                }
                for (const PageRange run : order.take(PageCount{1 + random() % 300})) {
                    for (Gfn page = run.first(); page < run.end(); page += PageCount{1}) {
                        CHECK(wanted.contains(page));
                        CHECK_FALSE(seen.contains(page));
                    }
                    seen.mark(run);
                }
            }
            wanted.subtract(seen);
            CHECK(wanted.is_empty());
        }
    }
}

} // namespace
} // namespace wherry::migrate
