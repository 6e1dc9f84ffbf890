// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace wherry::guest {

inline constexpr std::size_t max_cpus = 4;
inline constexpr std::uint64_t page_bytes = 4096;
inline constexpr std::uint64_t page_words = page_bytes / sizeof(std::uint64_t);

/// What one CPU owns of the image. boot.S knows the size and where the stacks end.
struct alignas(page_bytes) Cpu {
    std::uint32_t number;
    alignas(16) std::array<std::byte, 512> task_state; ///< TSS with an I/O bitmap for ports 0..7ff
    alignas(page_bytes) std::array<std::byte, 8192> ring0_stack;
    alignas(page_bytes) std::array<std::byte, 32768> work_stack;
};
static_assert(offsetof(Cpu, work_stack) == 0x3000 && sizeof(Cpu) == 0xb000);

struct CpuidLeaf {
    std::uint32_t eax;
    std::uint32_t ebx;
    std::uint32_t ecx;
    std::uint32_t edx;
};

/// Numbers of the gate in ring0.S.
enum class Service : std::uint32_t {
    wait_deadline = 0,
    wait_xapic = 1,
    wait_x2apic = 2,
    read_msr = 3,
    write_msr = 4,
    await_timer = 5,
};

inline std::uint64_t read_tsc() noexcept {
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    asm volatile("rdtsc" : "=a"(low), "=d"(high) : : "memory");
    return (std::uint64_t{high} << 32) | low;
}

inline CpuidLeaf cpuid(std::uint32_t leaf) noexcept {
    CpuidLeaf result{};
    asm volatile("cpuid"
                 : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
                 : "a"(leaf), "c"(0));
    return result;
}

inline void write_port(std::uint16_t port, std::uint8_t value) noexcept {
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

inline std::uint8_t read_port(std::uint16_t port) noexcept {
    std::uint8_t value = 0;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
    return value;
}

inline void relax() noexcept {
    asm volatile("pause" : : : "memory");
}

extern "C" std::uint32_t work_ring; ///< the ring that all CPUs work in: 0 or 3

/// From ring 3 through the breakpoint exception: para-virtual KVM answers INT n with #UD and leaves
/// ring 3 on SYSCALL without raising the privilege, but delivers exceptions.
inline std::uint64_t
call_ring0(Service service, std::uint64_t first = 0, std::uint64_t second = 0) noexcept {
    std::uint64_t result = 0;
    if (work_ring == 3) {
        asm volatile("int3"
                     : "=a"(result), "+d"(second)
                     : "D"(service), "S"(first)
                     : "rcx", "memory", "cc");
    } else {
        asm volatile("call service_from_ring0"
                     : "=a"(result), "+d"(second)
                     : "D"(service), "S"(first)
                     : "rcx", "memory", "cc");
    }
    return result;
}

/// The witness: a total kept in MMX register mm0, which no compiled code here uses. It travels with
/// the vCPU's FPU state and not with memory, so memory that is stale as a whole disagrees with it.
inline std::uint64_t read_witness() noexcept {
    std::uint64_t value = 0;
    asm volatile("movq %%mm0, %0" : "=r"(value));
    return value;
}

inline void write_witness(std::uint64_t value) noexcept {
    asm volatile("movq %0, %%mm0" : : "r"(value));
}

/// Ends the VM: the VMM's exit port takes the code. Never returns, also where nobody listens.
[[noreturn]] void end_vm(std::uint8_t code) noexcept;

inline constexpr std::uint8_t exit_errors_found = 1;
inline constexpr std::uint8_t exit_setup_failed = 2;
inline constexpr std::uint8_t exit_exception = 3;

} // namespace wherry::guest
