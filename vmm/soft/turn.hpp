// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace wherry::vmm::soft {

/// The right to use a Unicorn engine, which is one thread's at a time. The vCPU has it while guest
/// code runs; visitors get it between two blocks of code. Not recursive.
class Turn {
public:
    /// The vCPU's side: after all visitors that wait.
    void begin_run() {
        std::unique_lock held{lock_};
        changed_.wait(held, [this] { return !is_taken_ && visitors_ == 0; });
        is_taken_ = true;
    }
    void end() {
        {
            const std::scoped_lock held{lock_};
            is_taken_ = false;
        }
        changed_.notify_all();
    }
    /// Asked by the vCPU at each block.
    [[nodiscard]] bool is_wanted() const noexcept {
        return visitors_.load(std::memory_order_relaxed) != 0;
    }

    class Visit {
    public:
        explicit Visit(Turn& turn) : turn_{turn} {
            std::unique_lock held{turn.lock_};
            ++turn.visitors_;
            turn.changed_.wait(held, [&turn] { return !turn.is_taken_; });
            turn.is_taken_ = true;
            --turn.visitors_;
        }
        Visit(const Visit&) = delete;
        Visit& operator=(const Visit&) = delete;
        ~Visit() { turn_.end(); }

    private:
        Turn& turn_;
    };

private:
    std::mutex lock_;
    std::condition_variable changed_;
    bool is_taken_ = false;
    std::atomic<unsigned> visitors_ = 0;
};

} // namespace wherry::vmm::soft
