// SPDX-License-Identifier: Apache-2.0
#include "vmm/vcpu_throttle.hpp"

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include <doctest/doctest.h>

using namespace wherry;
using vmm::ExitReason;
using vmm::VcpuThread;

namespace {

/// A guest that runs until it is kicked, and what happened to it so far.
class Diary {
public:
    void enter() {
        const std::scoped_lock held{mutex_};
        ++entries_;
        is_inside_ = true;
        changed_.notify_all();
    }
    void await_kick() {
        std::unique_lock held{mutex_};
        changed_.wait(held, [this] { return is_kicked_; });
        is_kicked_ = false;
        is_inside_ = false;
        changed_.notify_all();
    }
    void kick() {
        const std::scoped_lock held{mutex_};
        is_kicked_ = true;
        changed_.notify_all();
    }
    void await_entries(int count) {
        std::unique_lock held{mutex_};
        changed_.wait(held, [&] { return entries_ >= count; });
    }
    void await_inside() {
        std::unique_lock held{mutex_};
        changed_.wait(held, [this] { return is_inside_; });
    }
    void await_outside() {
        std::unique_lock held{mutex_};
        changed_.wait(held, [this] { return !is_inside_; });
    }
    int entries() {
        const std::scoped_lock held{mutex_};
        return entries_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int entries_ = 0;
    bool is_inside_ = false;
    bool is_kicked_ = false;
};

class DiaryVcpu final : public vmm::Vcpu {
public:
    explicit DiaryVcpu(Diary& diary) : diary_{diary} {}
    formats::Result<ExitReason> run(vmm::ExitHandler&) override {
        diary_.enter();
        diary_.await_kick();
        return ExitReason::kicked;
    }
    void kick() noexcept override { diary_.kick(); }
    formats::Result<vmm::VcpuState> save() override { return vmm::VcpuState{}; }
    formats::Status restore(const vmm::VcpuState&) override { return {}; }
    formats::Status set_cpuid(std::span<const vmm::CpuidEntry>) override { return {}; }

private:
    Diary& diary_;
};

class NoExits final : public vmm::ExitHandler {
    void port_read(std::uint16_t, std::span<std::byte>) override {}
    void port_write(std::uint16_t, std::span<const std::byte>) override {}
    void memory_read(formats::Gpa, std::span<std::byte>) override {}
    void memory_write(formats::Gpa, std::span<const std::byte>) override {}
    void end_of_interrupt(std::uint8_t) override {}
};

struct Bench {
    explicit Bench(std::size_t count) : diaries(count) {
        for (Diary& diary : diaries) {
            vcpus.push_back(std::make_unique<VcpuThread>(
                static_cast<std::uint32_t>(vcpus.size()),
                std::make_unique<DiaryVcpu>(diary),
                exits,
                [](std::uint32_t, const formats::Result<ExitReason>&) {}));
        }
    }
    void start() {
        for (std::size_t i = 0; i < vcpus.size(); ++i) {
            vcpus[i]->start();
            diaries[i].await_entries(1);
        }
    }
    std::vector<Diary> diaries;
    NoExits exits;
    std::vector<std::unique_ptr<VcpuThread>> vcpus;
};

VcpuThread::Clock::time_point far_away() {
    return VcpuThread::Clock::now() + std::chrono::hours{1};
}

} // namespace

TEST_SUITE("vmm.vcpu_throttle") {
    TEST_CASE("a vCPU that rests leaves the guest and comes back when the rest is over") {
        Bench bench{1};
        bench.start();
        bench.vcpus[0]->rest_until(far_away());
        bench.diaries[0].await_outside();
        CHECK(bench.diaries[0].entries() == 1);
        bench.vcpus[0]->rest_until({});
        bench.diaries[0].await_entries(2);
    }

    TEST_CASE("a vCPU that rests stops, starts and ends like any other") {
        Bench bench{1};
        bench.start();
        bench.vcpus[0]->rest_until(far_away());
        bench.diaries[0].await_outside();
        bench.vcpus[0]->request_stop();
        bench.vcpus[0]->await_stopped();
        bench.vcpus[0]->start();
        bench.vcpus[0]->end();
        CHECK(bench.diaries[0].entries() == 1);
    }

    TEST_CASE("a throttle puts all vCPUs to rest again and again, until it is lifted") {
        Bench bench{3};
        bench.start();
        vmm::VcpuThrottle throttle{bench.vcpus};
        throttle.set(50);
        for (Diary& diary : bench.diaries) {
            diary.await_entries(20); // nobody else kicks them
        }
        throttle.set(99);
        throttle.set(0);
        for (Diary& diary : bench.diaries) {
            diary.await_inside();
        }
    }

    TEST_CASE("a throttle that goes away lets go") {
        Bench bench{1};
        bench.start();
        {
            vmm::VcpuThrottle throttle{bench.vcpus};
            throttle.set(99);
            bench.diaries[0].await_entries(3);
        }
        bench.diaries[0].await_inside();
    }

} // TEST_SUITE
