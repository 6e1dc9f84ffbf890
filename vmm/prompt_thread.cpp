// SPDX-License-Identifier: Apache-2.0
#include "vmm/prompt_thread.hpp"

#include <linux/sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace wherry::vmm {

namespace {

/// The shortest that the kernel takes.
constexpr std::uint64_t slice_ns = 100'000;
constexpr std::uint32_t lowest_priority = 1;

} // namespace

PromptThread::Attributes PromptThread::attributes() noexcept {
    Attributes found{};
    return ::syscall(SYS_sched_getattr, 0, &found, sizeof(found), 0) == 0 ? found : Attributes{};
}

bool PromptThread::apply(Attributes attributes) noexcept {
    attributes.size = sizeof(attributes);
    return ::syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

void answer_promptly() noexcept {
    auto wanted = PromptThread::attributes();
    if (wanted.size == 0 || wanted.policy != SCHED_NORMAL) {
        return;
    }
    wanted.policy = SCHED_RR;
    wanted.flags |= SCHED_FLAG_RESET_ON_FORK;
    wanted.priority = lowest_priority;
    wanted.nice = 0;
    wanted.runtime = 0;
    if (!PromptThread::apply(wanted)) {
        run_in_short_slices();
    }
}

void run_in_short_slices() noexcept {
    auto wanted = PromptThread::attributes();
    if (wanted.size == 0 || wanted.policy != SCHED_NORMAL) {
        return;
    }
    wanted.runtime = slice_ns; // a kernel that knows no slices ignores it
    PromptThread::apply(wanted);
}

PromptThread::PromptThread() noexcept : before_{attributes()} {
    answer_promptly();
}

PromptThread::~PromptThread() {
    if (before_.size == 0 || apply(before_)) {
        return;
    }
    before_.flags |= SCHED_FLAG_RESET_ON_FORK; // which only the privileged may take back
    apply(before_);
}

} // namespace wherry::vmm
