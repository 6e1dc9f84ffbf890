// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshvsim/alarm.hpp"
#include "vmm/mshvsim/cpuid_results.hpp"
#include "vmm/mshvsim/doorbells.hpp"
#include "vmm/mshvsim/engine.hpp"
#include "vmm/mshvsim/interrupts.hpp"
#include "vmm/mshvsim/memory_map.hpp"
#include "vmm/mshvsim/partition_pages.hpp"
#include "vmm/mshvsim/properties.hpp"

#include <memory>

namespace wherry::vmm::mshvsim {

/// What the VPs of a partition share.
struct Hypervisor {
    std::unique_ptr<Engine> engine;
    std::uint64_t partition_id;
    FeatureBanks offered;
    Properties properties;
    CpuidResults cpuid;
    Doorbells doorbells;
    MemoryMap memory;
    PartitionPages pages;
    Interrupts interrupts;
    Alarm alarm;

    Hypervisor(
        std::unique_ptr<Engine> cpu_engine,
        std::uint64_t id,
        const FeatureBanks& banks,
        Personality personality,
        Interrupts::Assert assert,
        Alarm::Wake wake)
        : engine{std::move(cpu_engine)},
          partition_id{id},
          offered{banks},
          properties{engine->capabilities(), banks},
          cpuid{base_cpuid(engine->capabilities(), banks, 0)},
          memory{*engine, personality, doorbells, physical_address_bits(engine->capabilities())},
          pages{memory},
          interrupts{engine->capabilities().has_lapic ? std::move(assert) : nullptr},
          alarm{properties.clock(), std::move(wake)} {}
};

} // namespace wherry::vmm::mshvsim
