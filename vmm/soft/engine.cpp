// SPDX-License-Identifier: Apache-2.0
#include "vmm/soft/engine.hpp"

#include <string>

namespace wherry::vmm::soft {

using formats::ErrorCode;
using formats::Result;
using formats::Status;

Status checked(uc_err outcome, std::string_view what) {
    if (outcome == UC_ERR_OK) {
        return {};
    }
    return formats::fail(
        outcome == UC_ERR_NOMEM ? ErrorCode::out_of_resources : ErrorCode::internal,
        std::string{what} + ": " + uc_strerror(outcome));
}

Result<Engine> Engine::open(uc_mode mode) {
    uc_engine* engine = nullptr;
    if (auto opened = checked(uc_open(UC_ARCH_X86, mode, &engine), "uc_open"); !opened) {
        return std::unexpected{std::move(opened).error()};
    }
    Engine owner{engine};
    // Without this, the address at which uc_emu_start would stop is looked up after each run, and
    // the failed look-up overwrites the guest's CR2.
    if (auto set = checked(uc_ctl_exits_enable(engine), "uc_ctl_exits_enable"); !set) {
        return std::unexpected{std::move(set).error()};
    }
    return owner;
}

Result<CpuImage> Engine::image() const {
    uc_context* context = nullptr;
    auto status = checked(uc_context_alloc(engine_.get(), &context), "uc_context_alloc");
    if (!status) {
        return std::unexpected{std::move(status).error()};
    }
    CpuImage image{context, uc_context_size(engine_.get())};
    status = checked(uc_context_save(engine_.get(), context), "uc_context_save");
    if (!status) {
        return std::unexpected{std::move(status).error()};
    }
    return image;
}

Status Engine::put(const CpuImage& image) const {
    return checked(uc_context_restore(engine_.get(), image.get()), "uc_context_restore");
}

std::uint64_t Engine::read_msr(std::uint32_t index) const {
    uc_x86_msr msr{.rid = index, .value = 0};
    expect(uc_reg_read(engine_.get(), UC_X86_REG_MSR, &msr), "uc_reg_read of an MSR");
    return msr.value;
}

void Engine::write_msr(std::uint32_t index, std::uint64_t value) const {
    const uc_x86_msr msr{.rid = index, .value = value};
    expect(uc_reg_write(engine_.get(), UC_X86_REG_MSR, &msr), "uc_reg_write of an MSR");
}

void Engine::expect(uc_err outcome, std::string_view call) {
    formats::invariant(outcome == UC_ERR_OK, call);
}

} // namespace wherry::vmm::soft
