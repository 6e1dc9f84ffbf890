// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/partition.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>

#include <linux/kvm.h>

namespace wherry::vmm::kvm {

/// The page in which kernel and VMM tell each other why a vCPU left the guest; owns the mapping.
class RunArea {
public:
    static formats::Result<RunArea> map(int vcpu, std::size_t size);
    RunArea(RunArea&& other) noexcept;
    RunArea& operator=(RunArea&&) = delete;
    RunArea(const RunArea&) = delete;
    RunArea& operator=(const RunArea&) = delete;
    ~RunArea();

    [[nodiscard]] volatile std::uint8_t* immediate_exit() const noexcept;
    /// The exit at hand changes state only when the vCPU enters the guest again.
    [[nodiscard]] bool is_completed_by_entry() const noexcept;
    /// Serves the exit at hand through `handler`. Nothing: go on running.
    formats::Result<std::optional<ExitReason>> serve(ExitHandler& handler);

private:
    RunArea(kvm_run* area, std::size_t size) : area_{area}, size_{size} {}
    void serve_port(ExitHandler& handler);
    void serve_memory(ExitHandler& handler);
    formats::Result<std::optional<ExitReason>> serve_system_event();
    kvm_run* area_;
    std::size_t size_;
};

} // namespace wherry::vmm::kvm
