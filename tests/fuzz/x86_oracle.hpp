// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vmm/vcpu_state.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include <unicorn/unicorn.h>

/// One instruction at a time on Unicorn, which has nothing in common with vmm/x86.
namespace wherry::fuzz {

enum class Mode : std::uint8_t { real, protected_32, long_64 };

// The same in all modes, by linear address.
inline constexpr std::uint64_t code_at = 0x1000;
inline constexpr std::size_t ram_size = 2U << 20U;
inline constexpr std::uint64_t mmio_at = ram_size; ///< RAM and MMIO touch
inline constexpr std::size_t mmio_size = 16 * 4096;

/// What RAM (addresses below mmio_at) and MMIO hold before each instruction.
std::uint8_t pristine(std::uint64_t at);

using Pages = std::set<std::uint64_t>;

struct OracleState {
    vmm::Registers registers;
    /// Real mode takes the selectors of ds, es, ss, fs, gs; long mode the bases of fs and gs.
    vmm::SystemRegisters system;
};

class Oracle {
public:
    explicit Oracle(Mode mode);

    /// Puts `code` at code_at and executes its first instruction, of `length` bytes. Whether it
    /// went through; the state then is in `state`. RAM and MMIO are changed as far as it came.
    bool execute(std::span<const std::uint8_t> code, std::size_t length, OracleState& state);

    [[nodiscard]] std::span<std::uint8_t> ram() noexcept { return ram_; }
    [[nodiscard]] std::span<std::uint8_t> mmio() noexcept { return mmio_; }
    [[nodiscard]] const Pages& written_pages() const noexcept { return written_; }
    /// RAM and MMIO as they were.
    void restore();

private:
    struct Close {
        void operator()(uc_engine* engine) const noexcept { uc_close(engine); }
    };
    void hook();
    void load(const OracleState& state) const;
    void store(OracleState& state) const;

    // uc_mem_map_ptr wants pages.
    struct Unmap {
        std::size_t size;
        void operator()(std::uint8_t* at) const noexcept;
    };
    Mode mode_;
    std::unique_ptr<std::uint8_t, Unmap> ram_storage_;
    std::span<std::uint8_t> ram_;
    std::vector<std::uint8_t> mmio_;
    std::unique_ptr<uc_engine, Close> engine_;
    Pages written_;
    bool was_interrupted_ = false;
};

} // namespace wherry::fuzz
