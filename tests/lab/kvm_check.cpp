// SPDX-License-Identifier: Apache-2.0
// Shows that /dev/kvm works: its version, what it offers, and one vCPU that executes three
// instructions. Exit code 0: all required capabilities are there and the vCPU did what its code
// says.

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace {

struct Capability {
    const char* name;
    int number;
    bool required;
};

constexpr std::array capabilities{
    Capability{"split irqchip", KVM_CAP_SPLIT_IRQCHIP, true},
    Capability{"TSC deadline timer", KVM_CAP_TSC_DEADLINE_TIMER, true},
    Capability{"manual dirty log protect 2", KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, true},
    Capability{"irqfd", KVM_CAP_IRQFD, true},
    Capability{"ioeventfd", KVM_CAP_IOEVENTFD, true},
    Capability{"signal MSI", KVM_CAP_SIGNAL_MSI, true},
    Capability{"x2APIC API", KVM_CAP_X2APIC_API, true},
    Capability{"xcrs", KVM_CAP_XCRS, false},
    Capability{"vCPU events", KVM_CAP_VCPU_EVENTS, true},
    Capability{"immediate exit", KVM_CAP_IMMEDIATE_EXIT, true},
    Capability{"adjust clock", KVM_CAP_ADJUST_CLOCK, true},
    Capability{"kvmclock control", KVM_CAP_KVMCLOCK_CTRL, true},
    Capability{"xsave2", KVM_CAP_XSAVE2, false},
    Capability{"TSC scaling", KVM_CAP_TSC_CONTROL, false},
    Capability{"get TSC kHz", KVM_CAP_GET_TSC_KHZ, false},
    Capability{"dirty ring", KVM_CAP_DIRTY_LOG_RING, false},
    Capability{"Hyper-V", KVM_CAP_HYPERV, false},
    Capability{"vCPUs, at most", KVM_CAP_MAX_VCPUS, false},
    Capability{"memory slots", KVM_CAP_NR_MEMSLOTS, false},
};

[[nodiscard]] int failed(const char* what) {
    std::printf("kvm_check: %s: %s\n", what, std::strerror(errno));
    return 1;
}

[[nodiscard]] bool print_capabilities(int kvm) {
    bool complete = true;
    for (const Capability& capability : capabilities) {
        const int value = ioctl(kvm, KVM_CHECK_EXTENSION, capability.number);
        const bool missing = capability.required && value <= 0;
        std::printf("kvm_check: %-28s %d%s\n", capability.name, value, missing ? " MISSING" : "");
        complete = complete && !missing;
    }
    return complete;
}

// Real-mode code at 0x1000: mov al, 0x4b; out 0x10, al; hlt. Leaves the vCPU ready to enter it.
[[nodiscard]] int load_program(int vm, int vcpu) {
    constexpr std::size_t page = 4096;
    constexpr std::array<std::uint8_t, 5> program{0xb0, 0x4b, 0xe6, 0x10, 0xf4};
    void* memory = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return failed("mmap of guest memory");
    std::memcpy(memory, program.data(), program.size());
    const kvm_userspace_memory_region region{
        .slot = 0,
        .flags = 0,
        .guest_phys_addr = 0x1000,
        .memory_size = page,
        .userspace_addr = reinterpret_cast<std::uintptr_t>(memory)};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return failed("KVM_SET_USER_MEMORY_REGION");
    kvm_sregs sregs{};
    if (ioctl(vcpu, KVM_GET_SREGS, &sregs) < 0)
        return failed("KVM_GET_SREGS");
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    if (ioctl(vcpu, KVM_SET_SREGS, &sregs) < 0)
        return failed("KVM_SET_SREGS");
    kvm_regs regs{};
    regs.rip = 0x1000;
    regs.rflags = 2;
    if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
        return failed("KVM_SET_REGS");
    return 0;
}

[[nodiscard]] int run_vcpu(int kvm, int vm) {
    const int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu < 0)
        return failed("KVM_CREATE_VCPU");
    if (const int code = load_program(vm, vcpu); code != 0)
        return code;
    const auto run_size = static_cast<std::size_t>(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0));
    void* mapped = mmap(nullptr, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    if (mapped == MAP_FAILED)
        return failed("mmap of the vCPU");
    const auto* run = static_cast<const kvm_run*>(mapped);
    if (ioctl(vcpu, KVM_RUN, 0) < 0)
        return failed("KVM_RUN");
    const std::span bytes{static_cast<const std::uint8_t*>(mapped), run_size};
    if (run->exit_reason != KVM_EXIT_IO || run->io.port != 0x10 ||
        bytes[run->io.data_offset] != 0x4b) {
        std::printf(
            "kvm_check: expected a write of 0x4b to port 0x10, got exit reason %u\n",
            run->exit_reason);
        return 1;
    }
    std::printf("kvm_check: a vCPU executed its code\n");
    return 0;
}

} // namespace

int main() {
    const int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0)
        return failed("opening /dev/kvm");
    const int version = ioctl(kvm, KVM_GET_API_VERSION, 0);
    std::printf("kvm_check: API version %d\n", version);
    const int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0)
        return failed("KVM_CREATE_VM");
    kvm_enable_cap split{};
    split.cap = KVM_CAP_SPLIT_IRQCHIP;
    split.args[0] = 24;
    if (ioctl(vm, KVM_ENABLE_CAP, &split) < 0)
        return failed("enabling the split irqchip");
    const bool complete = print_capabilities(kvm);
    const int code = run_vcpu(kvm, vm);
    return version == KVM_API_VERSION && complete ? code : 1;
}
