// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/mshv/abi/registers.hpp"
#include "vmm/mshv/descriptor.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace wherry::vmm::mshv {

struct NamedValue {
    std::uint32_t name = 0;
    abi::RegisterValue value;
    friend bool operator==(const NamedValue&, const NamedValue&) = default;
};

/// Registers of one VP by hypercall, through its descriptor: while the VP runs these calls wait
/// until it does not.
class VpRegisters {
public:
    VpRegisters(const Descriptor& vp, std::uint32_t index) noexcept : vp_{vp}, index_{index} {}

    /// All of them, in the order of `names`.
    formats::Result<std::vector<abi::RegisterValue>>
    read(std::span<const std::uint32_t> names) const;
    formats::Result<abi::RegisterValue> read(std::uint32_t name) const;
    /// In order; fails naming the first that the hypervisor refuses. Those before it are written.
    formats::Status write(std::span<const NamedValue> values) const;

    /// Those of `names` that this hypervisor and its guest have. The others are left out.
    formats::Result<std::vector<NamedValue>>
    read_present(std::span<const std::uint32_t> names) const;
    /// Writes all it can, and returns what was refused.
    formats::Result<std::vector<NamedValue>>
    write_accepted(std::span<const NamedValue> values) const;

private:
    HypercallOutcome try_read(std::span<const std::uint32_t> names, abi::RegisterValue* into) const;
    HypercallOutcome try_write(std::span<const NamedValue> values) const;

    const Descriptor& vp_;
    std::uint32_t index_;
};

} // namespace wherry::vmm::mshv
