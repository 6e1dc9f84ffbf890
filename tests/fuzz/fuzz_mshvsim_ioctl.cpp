// SPDX-License-Identifier: Apache-2.0
// A program that calls the simulated /dev/mshv with anything: every call comes back with a number
// that a kernel could give, and none crashes or hangs. Addresses are pointed into an arena, lest
// the simulator be asked to overwrite the fuzzer.
#include "formats/error.hpp"
#include "fuzz_target.hpp"
#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/ioctls.hpp"
#include "vmm/mshvsim/simulator.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <csignal>
#include <cstring>
#include <memory>
#include <mutex>
#include <span>

#include <sys/mman.h>
#include <sys/time.h>

using namespace wherry;
namespace ioctls = vmm::mshv::abi::ioctls;

namespace {

constexpr std::size_t arena_size = std::size_t{64} * 4096;
constexpr int largest_errno = 4095;

std::byte* arena() {
    static void* const made =
        ::mmap(nullptr, arena_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    formats::invariant(made != MAP_FAILED, "there is memory for an arena");
    return static_cast<std::byte*>(made);
}

/// nullptr where the host has no engine: then there is nothing to try.
vmm::mshv::Syscalls* simulator() {
    static const auto made = vmm::mshvsim::open_simulator({});
    return made ? made->get() : nullptr;
}

/// Ends a RUN_VP that would wait for ever.
void start_clock() {
    struct sigaction action{};
    action.sa_handler = [](int) {
    };
    ::sigaction(SIGALRM, &action, nullptr);
    const itimerval every{.it_interval = {0, 2000}, .it_value = {0, 2000}};
    ::setitimer(ITIMER_REAL, &every, nullptr);
}

class Script {
public:
    explicit Script(std::span<const std::uint8_t> bytes) : bytes_{bytes} {}
    [[nodiscard]] bool is_over() const { return bytes_.empty(); }
    std::uint8_t next() {
        std::uint8_t one = 0;
        fill(&one, 1);
        return one;
    }
    /// What is there, then zeros.
    void fill(void* to, std::size_t size) {
        const std::size_t part = std::min(size, bytes_.size());
        std::memset(to, 0, size);
        std::memcpy(to, bytes_.data(), part);
        bytes_ = bytes_.subspan(part);
    }

private:
    std::span<const std::uint8_t> bytes_;
};

/// Mostly a place in the arena; sometimes nowhere.
void aim(std::uint64_t& address) {
    address = address == 0 || address % 16 == 15
                  ? 0
                  : std::bit_cast<std::uint64_t>(arena()) + address % arena_size / 2;
}

struct Session {
    vmm::mshv::Syscalls& calls;
    int device = -1, partition = -1;
    std::array<int, 2> vps{-1, -1};

    int call(int descriptor, std::uint64_t request, void* argument) {
        const int result = calls.ioctl(descriptor, request, argument);
        formats::invariant(result >= -largest_errno, "an ioctl returns an errno or a number");
        return result;
    }
    template <typename Argument>
    Argument random(Script& script) {
        Argument argument;
        script.fill(&argument, sizeof(argument));
        return argument;
    }
};

void hypercall(Session& session, Script& script, int descriptor) {
    auto wanted = session.random<ioctls::RootHvcall>(script);
    script.fill(arena(), 96);
    wanted.status = script.next() % 8 == 7 ? wanted.status : std::uint16_t{0};
    wanted.reserved = {};
    aim(wanted.input);
    aim(wanted.output);
    if (wanted.input != 0 && script.next() % 4 != 0) {
        wanted.input = std::bit_cast<std::uint64_t>(arena());
    }
    session.call(descriptor, ioctls::root_hvcall, &wanted);
}

void partition_call(Session& session, Script& script) {
    switch (script.next() % 7) {
    case 0: {
        auto region = session.random<ioctls::MemoryRegion>(script);
        aim(region.userspace_address);
        region.userspace_address &= ~std::uint64_t{4095};
        region.size = region.size % 17 * 4096;
        region.guest_pfn %= 4096;
        session.call(session.partition, ioctls::set_guest_memory, &region);
        break;
    }
    case 1: {
        auto irqfd = session.random<ioctls::Irqfd>(script);
        session.call(session.partition, ioctls::irqfd, &irqfd);
        break;
    }
    case 2: {
        auto bell = session.random<ioctls::Ioeventfd>(script);
        session.call(session.partition, ioctls::ioeventfd, &bell);
        break;
    }
    case 3:
        script.fill(arena(), 64);
        session.call(session.partition, ioctls::set_msi_routing, arena());
        break;
    case 4: {
        auto wanted = session.random<ioctls::GpapAccessBitmap>(script);
        wanted.page_count %= arena_size;
        aim(wanted.bitmap);
        session.call(session.partition, ioctls::get_gpap_access_bitmap, &wanted);
        break;
    }
    case 5:
        hypercall(session, script, session.partition);
        break;
    default:
        session.call(session.partition, script.next(), arena());
        break;
    }
}

void vp_call(Session& session, Script& script) {
    const int vp = session.vps[script.next() % 2];
    switch (script.next() % 4) {
    case 0:
        session.call(vp, ioctls::run_vp, arena() + arena_size / 2);
        break;
    case 1: {
        auto state = session.random<ioctls::VpState>(script);
        aim(state.buffer);
        state.buffer &= ~std::uint64_t{4095};
        state.buffer_size %= 3 * 4096;
        session.call(
            vp, script.next() % 2 == 0 ? ioctls::get_vp_state : ioctls::set_vp_state, &state);
        break;
    }
    case 2:
        hypercall(session, script, vp);
        break;
    default:
        session.call(vp, script.next(), arena());
        break;
    }
}

void set_up(Session& session, Script& script) {
    session.device = session.calls.open_device();
    ioctls::CreatePartition create{.flags = 0xf};
    create.disabled_features[0] = script.next();
    session.partition = session.call(session.device, ioctls::create_partition, &create);
    if (script.next() % 8 != 7) {
        session.call(session.partition, ioctls::initialize_partition, nullptr);
    }
    for (std::uint32_t index = 0; index < session.vps.size(); ++index) {
        ioctls::CreateVp wanted{index};
        session.vps[index] = session.call(session.partition, ioctls::create_vp, &wanted);
    }
    ioctls::MemoryRegion region{.size = 16 * 4096, .flags = 3};
    region.userspace_address = std::bit_cast<std::uint64_t>(arena()) + arena_size / 4 * 3;
    session.call(session.partition, ioctls::set_guest_memory, &region);
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    auto* const calls = simulator();
    if (calls == nullptr) {
        return 0;
    }
    static std::once_flag once;
    std::call_once(once, start_clock);
    Script script{{data, size}};
    Session session{.calls = *calls};
    set_up(session, script);
    while (!script.is_over()) {
        switch (script.next() % 4) {
        case 0:
            vp_call(session, script);
            break;
        case 1:
            hypercall(session, script, session.device);
            break;
        default:
            partition_call(session, script);
            break;
        }
    }
    for (const int descriptor :
         {session.vps[0], session.vps[1], session.partition, session.device}) {
        if (descriptor >= 0) {
            calls->close(descriptor);
        }
    }
    return 0;
}
