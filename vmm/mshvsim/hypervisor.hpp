// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/cpuid_results.hpp"
#include "vmm/mshvsim/doorbells.hpp"
#include "vmm/mshvsim/engine.hpp"
#include "vmm/mshvsim/interrupts.hpp"
#include "vmm/mshvsim/memory_map.hpp"
#include "vmm/mshvsim/properties.hpp"

#include <map>
#include <mutex>

namespace wherry::vmm::mshvsim {

/// Registers that a partition has once, whichever VP names them. Thread-safe.
class SharedRegisters {
public:
    std::uint64_t get(std::uint32_t name) {
        const std::scoped_lock held{lock_};
        return values_[name];
    }
    void set(std::uint32_t name, std::uint64_t value) {
        const std::scoped_lock held{lock_};
        values_[name] = value;
    }

private:
    std::mutex lock_;
    std::map<std::uint32_t, std::uint64_t> values_;
};

/// What the VPs of a partition share.
struct Hypervisor {
    std::unique_ptr<Engine> engine;
    std::uint64_t partition_id;
    FeatureBanks offered;
    Properties properties;
    CpuidResults cpuid;
    SharedRegisters shared;
    Doorbells doorbells;
    MemoryMap memory;
    Interrupts interrupts;

    Hypervisor(
        std::unique_ptr<Engine> cpu_engine,
        std::uint64_t id,
        const FeatureBanks& banks,
        Personality personality,
        Interrupts::Assert assert)
        : engine{std::move(cpu_engine)},
          partition_id{id},
          offered{banks},
          properties{engine->capabilities(), banks},
          cpuid{base_cpuid(engine->capabilities(), banks, 0)},
          memory{*engine, personality, doorbells, physical_address_bits(engine->capabilities())},
          interrupts{engine->capabilities().has_lapic ? std::move(assert) : nullptr} {}
};

} // namespace wherry::vmm::mshvsim
