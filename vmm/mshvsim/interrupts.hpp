// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshvsim/engine.hpp"
#include "vmm/unique_fd.hpp"

#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <thread>

namespace wherry::vmm::mshvsim {

/// SET_MSI_ROUTING and IRQFD: eventfds that assert interrupts, on a thread of its own. Thread-safe.
class Interrupts {
public:
    using Assert = std::function<void(const Interrupt&)>;
    /// Without `assert`, no eventfd can be bound: nothing would come of it.
    explicit Interrupts(Assert assert) : assert_{std::move(assert)} {}
    Interrupts(const Interrupts&) = delete;
    Interrupts& operator=(const Interrupts&) = delete;
    ~Interrupts();

    /// `table`: user address of the header. 0 or minus errno, both.
    int set_routing(std::uint64_t table);
    int change(const mshv::abi::ioctls::Irqfd& wanted);
    /// Signals resample events. True: the VMM is not told of this end of an interrupt.
    bool end_of_interrupt(std::uint32_t vector);

private:
    struct Irqfd {
        std::uint64_t key = 0; ///< for epoll
        std::uint32_t gsi = 0;
        std::string identity;
        UniqueFd event, resample;
        bool was_pending = false; ///< asserted at bind, with the count left in place
    };
    int bind(const mshv::abi::ioctls::Irqfd& wanted, std::string identity);
    int start_thread();
    void serve();
    void signal(std::uint64_t key);
    /// With lock_.
    void assert_gsi(std::uint32_t gsi);

    Assert assert_;
    std::mutex lock_;
    std::map<std::uint32_t, Interrupt> routes_;
    std::list<Irqfd> irqfds_;
    std::uint64_t next_key_ = 1;
    UniqueFd epoll_, stop_;
    std::thread thread_;
};

} // namespace wherry::vmm::mshvsim
