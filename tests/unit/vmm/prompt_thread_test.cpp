// SPDX-License-Identifier: Apache-2.0
#include "vmm/prompt_thread.hpp"

#include <thread>

#include <doctest/doctest.h>

#include <sched.h>

using namespace wherry;

namespace {

int policy_of_this_thread() {
    return ::sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
}

/// On a thread of its own: what a test leaves behind is nobody's.
template <typename Function>
void on_a_thread(const Function& function) {
    std::thread{function}.join();
}

bool may_be_first() {
    bool may = false;
    on_a_thread([&may] {
        const sched_param lowest{.sched_priority = 1};
        may = ::sched_setscheduler(0, SCHED_RR, &lowest) == 0;
    });
    return may;
}

} // namespace

TEST_SUITE("vmm.prompt_thread") {
    TEST_CASE("a prompt thread goes first where it may, and is ordinary again afterwards") {
        on_a_thread([] {
            {
                const vmm::PromptThread prompt;
                CHECK(policy_of_this_thread() == (may_be_first() ? SCHED_RR : SCHED_OTHER));
            }
            CHECK(policy_of_this_thread() == SCHED_OTHER);
        });
    }

    TEST_CASE("what a prompt thread starts is ordinary") {
        on_a_thread([] {
            vmm::answer_promptly();
            on_a_thread([] { CHECK(policy_of_this_thread() == SCHED_OTHER); });
        });
    }

    TEST_CASE("a thread in short slices is an ordinary one, and can become prompt") {
        on_a_thread([] {
            vmm::run_in_short_slices();
            CHECK(policy_of_this_thread() == SCHED_OTHER);
            const vmm::PromptThread prompt;
            CHECK(policy_of_this_thread() == (may_be_first() ? SCHED_RR : SCHED_OTHER));
        });
    }

    TEST_CASE("a policy that somebody has chosen stays") {
        on_a_thread([] {
            const sched_param none{};
            REQUIRE(::sched_setscheduler(0, SCHED_BATCH, &none) == 0);
            vmm::run_in_short_slices();
            CHECK(policy_of_this_thread() == SCHED_BATCH);
            {
                const vmm::PromptThread prompt;
                CHECK(policy_of_this_thread() == SCHED_BATCH);
            }
            CHECK(policy_of_this_thread() == SCHED_BATCH);
        });
    }
}
