// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "formats/units.hpp"
#include "vmm/machine.hpp"
#include "vmm/vcpu_state.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace wherry::formats::proto { // formats/proto/machine.pb.h, vcpu.pb.h
class CpuidEntry;
class DeviceState;
class MachineConfig;
class MachineState;
class PartitionClock;
class VcpuState;
} // namespace wherry::formats::proto

namespace wherry::vmm {

// Plain state <-> Protobuf. from_proto is total: whatever a message holds, the result is a value
// within the limits below or an Error (`protocol`) that names the field. What the hypervisor or a
// device makes of the value is theirs to judge.

inline constexpr std::uint32_t saved_vcpus_limit = 4096;
inline constexpr std::size_t saved_msrs_limit = 4096;
inline constexpr std::size_t saved_extended_controls_limit = 16;
inline constexpr std::size_t saved_cpuid_limit = 1024;
inline constexpr std::size_t saved_devices_limit = 1024;
inline constexpr std::size_t saved_device_id_limit = 64;
inline constexpr formats::Bytes saved_xsave_limit = formats::operator""_KiB(64);
inline constexpr formats::Bytes saved_device_limit = formats::operator""_MiB(16);

void to_proto(const CpuidEntry& entry, formats::proto::CpuidEntry& into);
CpuidEntry from_proto(const formats::proto::CpuidEntry& message);

void to_proto(const MachineConfig& config, formats::proto::MachineConfig& into);
formats::Result<MachineConfig> from_proto(const formats::proto::MachineConfig& message);

void to_proto(const VcpuState& state, formats::proto::VcpuState& into);
formats::Result<VcpuState> from_proto(const formats::proto::VcpuState& message);

void to_proto(const DeviceState& state, formats::proto::DeviceState& into);
formats::Result<DeviceState> from_proto(const formats::proto::DeviceState& message);

void to_proto(const PartitionClock& clock, formats::proto::PartitionClock& into);
PartitionClock from_proto(const formats::proto::PartitionClock& message);

void to_proto(const MachineState& state, formats::proto::MachineState& into);
/// Vcpus must be numbered 0, 1, 2... and devices have ids of their own.
formats::Result<MachineState> from_proto(const formats::proto::MachineState& message);

/// MachineState as the payload of a machine_state frame. Fails where it is beyond the limits.
formats::Result<std::vector<std::byte>> encode(const MachineState& state);
formats::Result<MachineState> decode_machine_state(std::span<const std::byte> bytes);

} // namespace wherry::vmm
