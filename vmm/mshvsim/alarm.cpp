// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/alarm.hpp"

#include <algorithm>
#include <chrono>
#include <csignal>

namespace wherry::vmm::mshvsim {

Alarm::~Alarm() {
    {
        const std::scoped_lock held{lock_};
        is_ending_ = true;
    }
    changed_.notify_all();
    if (thread_.joinable()) {
        thread_.join();
    }
}

void Alarm::set(std::uint32_t vp, std::optional<std::uint64_t> due) {
    const std::scoped_lock held{lock_};
    if (!due) {
        due_.erase(vp);
        return;
    }
    const auto [entry, is_new] = due_.try_emplace(vp, *due);
    if (!is_new && entry->second == *due) {
        return; // most runs begin with the alarm that the last one had
    }
    entry->second = *due;
    if (!thread_.joinable()) {
        // The program's signals are not for this thread.
        sigset_t all;
        sigset_t before;
        sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before);
        thread_ = std::thread{[this] {
            serve();
        }};
        ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
    changed_.notify_all();
}

void Alarm::clock_changed() {
    const std::scoped_lock held{lock_};
    changed_.notify_all();
}

void Alarm::serve() {
    using Hundreds = std::chrono::duration<std::int64_t, std::ratio<1, 10'000'000>>;
    constexpr std::uint64_t longest = 36'000'000'000; // an hour: far ones are looked at again
    std::unique_lock held{lock_};
    while (!is_ending_) {
        if (due_.empty() || clock_.is_frozen()) {
            changed_.wait(held);
            continue;
        }
        const auto next =
            std::ranges::min_element(due_, {}, [](const auto& entry) { return entry.second; });
        const std::uint64_t now = clock_.now();
        if (next->second > now) {
            const std::uint64_t left = std::min(next->second - now, longest);
            changed_.wait_for(held, Hundreds{static_cast<std::int64_t>(left)});
            continue;
        }
        const std::uint32_t vp = next->first;
        due_.erase(next);
        held.unlock(); // a VP that is being woken may set its next alarm
        wake_(vp);
        held.lock();
    }
}

} // namespace wherry::vmm::mshvsim
