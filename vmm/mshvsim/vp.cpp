// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshvsim/vp.hpp"

#include "vmm/mshv/abi/synthetic_features.hpp"

#include <cerrno>
#include <utility>

#include <sys/mman.h>

namespace wherry::vmm::mshvsim {

using formats::fail;
using formats::Result;

namespace {
constexpr std::size_t pages_size = 2 * mshv::abi::page_size;
} // namespace

Result<std::unique_ptr<Vp>> Vp::open(Hypervisor& hypervisor, std::uint32_t index) {
    UniqueFd pages{::memfd_create("mshv_vp", MFD_CLOEXEC)};
    if (!pages.is_open() || ::ftruncate(pages.get(), pages_size) != 0) {
        return fail(formats::system_error(errno, "making a VP's pages"));
    }
    void* const mapped =
        ::mmap(nullptr, pages_size, PROT_READ | PROT_WRITE, MAP_SHARED, pages.get(), 0);
    if (mapped == MAP_FAILED) {
        return fail(formats::system_error(errno, "mapping a VP's pages"));
    }
    auto vcpu = hypervisor.engine->create_vcpu(index, hypervisor.memory);
    if (!vcpu) {
        ::munmap(mapped, pages_size);
        return fail(std::move(vcpu.error()));
    }
    auto vp = std::make_unique<Vp>(hypervisor, index, std::move(*vcpu), std::move(pages), mapped);
    vp->is_cpuid_stale_ = true;
    if (!vp->apply_cpuid()) {
        return fail(formats::ErrorCode::unsupported, "the engine refuses its own CPUID");
    }
    vp->registers_.fill(*vp->page_);
    return vp;
}

Vp::Vp(
    Hypervisor& hypervisor,
    std::uint32_t index,
    std::unique_ptr<EngineVcpu> vcpu,
    UniqueFd pages,
    void* mapped)
    : hypervisor_{hypervisor},
      index_{index},
      vcpu_{std::move(vcpu)},
      pages_{std::move(pages)},
      page_{static_cast<mshv::abi::RegisterPage*>(mapped)},
      message_{reinterpret_cast<Message*>(
          static_cast<std::byte*>(mapped) + mshv::abi::ioctls::vp_mapping::message_page)},
      gate_{*vcpu_},
      registers_{hypervisor, *vcpu_, index},
      counts_runtime_{is_offered(mshv::abi::synthetic_features::vp_runtime)} {}

Vp::~Vp() {
    ::munmap(page_, pages_size);
}

bool Vp::inject_external(std::uint8_t vector) {
    const RunGate::Visit visit{gate_};
    return vcpu_->inject_external(vector);
}

int Vp::ioctl(std::uint64_t request, std::uint64_t argument) {
    namespace ioctls = mshv::abi::ioctls;
    const std::scoped_lock held{driver_lock_};
    switch (request) {
    case ioctls::run_vp:
        return run(argument);
    case ioctls::get_vp_state:
        return move_state(argument, false);
    case ioctls::set_vp_state:
        return move_state(argument, true);
    default:
        return -ENOTTY;
    }
}

} // namespace wherry::vmm::mshvsim
