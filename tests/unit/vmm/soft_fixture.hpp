// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/guest_memory.hpp"
#include "vmm/partition.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace wherry::vmm::soft_test {

/// Code of tests/unit/vmm/soft_guests.S.
struct GuestCode {
    std::span<const std::byte> body;
};
extern const GuestCode counter, near_halt, halt, devices, state, writer, clock, remapper, features,
    divider;

/// Answers as soft_guests.S asks for, and remembers.
class Devices final : public ExitHandler {
public:
    void port_read(std::uint16_t port, std::span<std::byte> data) override;
    void port_write(std::uint16_t port, std::span<const std::byte> data) override;
    void memory_read(formats::Gpa at, std::span<std::byte> data) override;
    void memory_write(formats::Gpa at, std::span<const std::byte> data) override;
    void end_of_interrupt(std::uint8_t vector) override;

    std::uint32_t sequence = 0; ///< the number last written to port 0x10
    std::uint64_t errors = 0;   ///< jumps in the sequence, and reports of the guest
    std::vector<std::uint32_t> results;
    std::string text;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> stores;
    bool may_go_on = false;
    std::function<void()> on_question; ///< at each read of port 0x13
};

/// A soft guest of 64 MiB. nothing where the module cannot be had, after a SKIPPED line.
struct SoftGuest {
    std::unique_ptr<GuestMemory> memory;
    std::unique_ptr<Partition> partition; // before vcpu, which it outlives
    std::unique_ptr<Vcpu> vcpu;

    std::uint64_t word(std::uint64_t at) const;
    void set_word(std::uint64_t at, std::uint64_t value);
};
std::optional<SoftGuest> make_guest(const char* test);
/// The same, with entry and body loaded and the vCPU at the PVH entry.
std::optional<SoftGuest> boot_guest(const char* test, const GuestCode& code);
/// All RAM of `from` into `to`.
void copy_memory(const SoftGuest& from, SoftGuest& to);
/// The module's answer to these options: its sentence, or nothing where it opened.
std::optional<std::string> refusal_of(const PartitionOptions& options);

} // namespace wherry::vmm::soft_test
