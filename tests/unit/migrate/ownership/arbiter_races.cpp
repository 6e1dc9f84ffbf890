// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/migrate/ownership/arbiter_races.hpp"

#include <array>
#include <atomic>
#include <barrier>
#include <random>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

namespace wherry::tests {

using namespace std::chrono_literals;
using migrate::Arbiter;
using migrate::ArbiterRecord;
using migrate::Asker;
using migrate::Epoch;
using migrate::RecordKind;
using migrate::VmId;

namespace {

constexpr auto limit = 30s;

struct Wish {
    ArbiterRecord record;
    Asker asker;
};

/// What contender `index` wants of the offer `epoch`.
Wish wish_of(std::size_t index, std::uint64_t epoch) {
    return index % 2 == 0 ? Wish{{RecordKind::committed, Epoch{epoch}}, Asker::destination}
                          : Wish{{RecordKind::reclaimed, Epoch{epoch + 1}}, Asker::source};
}

/// Brings the VM to an offer and returns its epoch.
std::uint64_t offer(Arbiter& arbiter, const VmId& vm) {
    const auto before = arbiter.read(vm, limit);
    REQUIRE_MESSAGE(before.has_value(), before.error().text());
    const auto epoch = *before ? static_cast<std::uint64_t>((*before)->epoch) + 1 : 1;
    const auto offered =
        arbiter.request(vm, {RecordKind::offered, Epoch{epoch}}, Asker::source, limit);
    REQUIRE_MESSAGE(offered.has_value(), offered.error().text());
    REQUIRE(offered->is_done);
    return epoch;
}

} // namespace

void race_for_epochs(const MakeArbiter& make, int epochs) {
    constexpr std::size_t contenders = 4;
    const VmId vm = VmId::make();
    const auto observer = make();
    std::barrier start{contenders + 1};
    std::barrier finish{contenders + 1};
    std::atomic<std::uint64_t> epoch = 0;
    std::array<std::optional<formats::Result<migrate::SwapOutcome>>, contenders> outcomes;
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < contenders; ++i) {
        threads.emplace_back([&, i] {
            const auto arbiter = make();
            for (int round = 0; round < epochs; ++round) {
                start.arrive_and_wait();
                const auto wish = wish_of(i, epoch);
                outcomes[i] = arbiter->request(vm, wish.record, wish.asker, limit);
                finish.arrive_and_wait();
            }
        });
    }
    // No REQUIRE between the barriers: threads would wait for ever.
    for (int round = 0; round < epochs; ++round) {
        epoch = offer(*observer, vm);
        start.arrive_and_wait();
        finish.arrive_and_wait();
        const auto now = observer->read(vm, limit);
        for (std::size_t i = 0; i < contenders; ++i) {
            const auto& outcome = outcomes[i];
            CHECK_MESSAGE(outcome->has_value(), (*outcome ? "" : outcome->error().text()));
            if (*outcome && now) {
                CHECK((*outcome)->now == *now);
                CHECK((*outcome)->is_done == (wish_of(i, epoch).record == **now));
            }
        }
    }
}

void race_by_processes(const MakeArbiter& make, int epochs) {
    constexpr std::size_t contenders = 4;
    const VmId vm = VmId::make();
    const auto observer = make();
    for (int round = 0; round < epochs; ++round) {
        const auto epoch = offer(*observer, vm);
        int gate[2];
        REQUIRE(::pipe(gate) == 0);
        std::array<pid_t, contenders> children{};
        for (std::size_t i = 0; i < contenders; ++i) {
            children[i] = ::fork();
            if (children[i] == 0) {
                ::close(gate[1]);
                char byte = 0;
                // Opens for all at once, when the parent closes it.
                const bool is_open = ::read(gate[0], &byte, 1) == 0;
                const auto wish = wish_of(i, epoch);
                const auto arbiter = make();
                const auto outcome = arbiter->request(vm, wish.record, wish.asker, limit);
                ::_exit(!is_open || !outcome ? 2 : (outcome->is_done ? 0 : 1));
            }
        }
        ::close(gate[0]);
        ::close(gate[1]);
        std::array<int, contenders> results{};
        for (std::size_t i = 0; i < contenders; ++i) {
            int status = 0;
            REQUIRE(::waitpid(children[i], &status, 0) == children[i]);
            results[i] = WEXITSTATUS(status);
        }
        const auto now = observer->read(vm, limit);
        REQUIRE(now.has_value());
        for (std::size_t i = 0; i < contenders; ++i) {
            CHECK(results[i] == (wish_of(i, epoch).record == **now ? 0 : 1));
        }
    }
}

void follow_the_rule(const MakeArbiter& make, std::uint64_t seed, int steps) {
    std::mt19937_64 random{seed};
    const VmId vm = VmId::make();
    const std::array arbiters{make(), make()};
    std::optional<ArbiterRecord> model;
    for (int step = 0; step < steps; ++step) {
        constexpr std::array kinds{
            RecordKind::offered, RecordKind::committed, RecordKind::reclaimed, RecordKind::running};
        const auto around = model ? static_cast<std::uint64_t>(model->epoch) : 1;
        const ArbiterRecord wanted{
            kinds[random() % kinds.size()], Epoch{around + random() % 4 - 1}};
        const auto asker = static_cast<Asker>(random() % 3);
        const auto outcome = arbiters[random() % 2]->request(vm, wanted, asker, limit);
        REQUIRE_MESSAGE(outcome.has_value(), outcome.error().text());
        if (may_follow(model, wanted, asker)) {
            model = wanted;
        }
        CHECK(outcome->is_done == (model == wanted));
        CHECK(outcome->now == model);
        const auto now = arbiters[random() % 2]->read(vm, limit);
        REQUIRE(now.has_value());
        REQUIRE(*now == model);
    }
}

} // namespace wherry::tests
