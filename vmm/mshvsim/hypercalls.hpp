// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshvsim/engine.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace wherry::vmm::mshvsim {

class Partition;

/// On which descriptor ROOT_HVCALL came.
enum class HypercallSource : std::uint8_t { device, partition, vp };

/// Input and output page of a hypercall, and what comes of it.
struct Hypercall {
    std::uint16_t code = 0;
    std::uint16_t reps = 0; ///< asked for
    std::uint16_t done = 0; ///< reps completed
    std::array<std::byte, 4096> input{};
    std::array<std::byte, 4096> output{};

    template <typename Input>
    [[nodiscard]] Input read(std::size_t at = 0) const {
        static_assert(sizeof(Input) <= 4096);
        Input value;
        std::memcpy(&value, input.data() + at, sizeof(Input));
        return value;
    }
    template <typename Output>
    void write(const Output& value, std::size_t at = 0) {
        std::memcpy(output.data() + at, &value, sizeof(Output));
    }
};

/// ROOT_HVCALL's own part, sheet 1.10: validates, copies, calls `execute(hypercall)`, which returns
/// the hypervisor's status, and copies back. 0 or minus errno.
template <typename Execute>
int root_hypercall(
    std::uint64_t argument, HypercallSource source, std::uint64_t partition_id, Execute execute);

/// Without a partition, on the device's descriptor. Status of the hypervisor.
std::uint16_t execute_on_host(const EngineCapabilities& engine, Hypercall& call);
std::uint16_t execute_on_partition(Partition& partition, Hypercall& call);

namespace detail {
/// 0 or errno.
int begin_hypercall(
    std::uint64_t argument,
    HypercallSource source,
    std::uint64_t partition_id,
    mshv::abi::ioctls::RootHvcall& wanted,
    Hypercall& call);
int end_hypercall(
    std::uint64_t argument,
    mshv::abi::ioctls::RootHvcall& wanted,
    const Hypercall& call,
    std::uint16_t status);
} // namespace detail

template <typename Execute>
int root_hypercall(
    std::uint64_t argument, HypercallSource source, std::uint64_t partition_id, Execute execute) {
    mshv::abi::ioctls::RootHvcall wanted;
    Hypercall call;
    if (const int error = detail::begin_hypercall(argument, source, partition_id, wanted, call);
        error != 0) {
        return -error;
    }
    return -detail::end_hypercall(argument, wanted, call, execute(call));
}

} // namespace wherry::vmm::mshvsim
