// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include <unicorn/unicorn.h>

namespace wherry::vmm::soft {

/// The register image of an engine: all of its CPU except the TLB, the translated code, CPUID and
/// the MTRRs. An image made by one engine may be put into another one, whatever mode either was
/// opened in: that is how a UC_MODE_64 engine (whose register names are 64 bits wide) comes to run
/// 32-bit code.
class CpuImage {
public:
    explicit CpuImage(uc_context* context, std::size_t size) : context_{context}, size_{size} {}
    [[nodiscard]] uc_context* get() const noexcept { return context_.get(); }
    [[nodiscard]] std::span<std::byte> bytes() noexcept {
        return {reinterpret_cast<std::byte*>(context_.get()), size_};
    }

private:
    struct Free {
        void operator()(uc_context* context) const noexcept { uc_context_free(context); }
    };
    std::unique_ptr<uc_context, Free> context_;
    std::size_t size_;
};

/// Owns a Unicorn engine. One thread at a time.
class Engine {
public:
    static formats::Result<Engine> open(uc_mode mode);

    [[nodiscard]] uc_engine* get() const noexcept { return engine_.get(); }

    [[nodiscard]] formats::Result<CpuImage> image() const;
    [[nodiscard]] formats::Status put(const CpuImage& image) const;

    /// For registers and values that cannot be refused: any failure is our own mistake.
    template <typename T>
    [[nodiscard]] T read(int register_id) const {
        T value{};
        expect(uc_reg_read(engine_.get(), register_id, &value), "uc_reg_read");
        return value;
    }
    template <typename T>
    void write(int register_id, const T& value) const {
        expect(uc_reg_write(engine_.get(), register_id, &value), "uc_reg_write");
    }
    [[nodiscard]] std::uint64_t read_msr(std::uint32_t index) const;
    void write_msr(std::uint32_t index, std::uint64_t value) const;

private:
    explicit Engine(uc_engine* engine) : engine_{engine} {}
    static void expect(uc_err outcome, std::string_view call);
    struct Close {
        void operator()(uc_engine* engine) const noexcept { uc_close(engine); }
    };
    std::unique_ptr<uc_engine, Close> engine_;
};

/// ok, or an internal error "what: Unicorn's text".
formats::Status checked(uc_err outcome, std::string_view what);

/// Runs the steps, each returning a Status, up to the first that fails; its error is the outcome.
template <typename... Steps>
formats::Status in_turn(Steps&&... steps) {
    formats::Status status;
    static_cast<void>(((status = steps(), status.has_value()) && ...));
    return status;
}

} // namespace wherry::vmm::soft
