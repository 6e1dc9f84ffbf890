// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/vp_registers.hpp"

#include "vmm/mshv/abi/hypercalls.hpp"
#include "vmm/mshv/abi/status.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

namespace hypercalls = abi::hypercalls;
using formats::Error;
using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {

// Fewer than the hypervisor takes: both fit into one page with room.
constexpr std::size_t batch = 64;
static_assert(batch <= hypercalls::max_registers_written);

struct ReadInput {
    hypercalls::RegistersHeader header;
    std::array<std::uint32_t, batch> names{};
};
struct WriteInput {
    hypercalls::RegistersHeader header;
    std::array<hypercalls::RegisterAssociation, batch> values{};
};
static_assert(sizeof(ReadInput) == sizeof(hypercalls::RegistersHeader) + 4 * batch);

/// A refusal of the register itself, rather than of the call or the VP's state.
bool is_about_the_register(const HypercallOutcome& outcome) {
    switch (outcome.status) {
    case abi::status::invalid_parameter:
    case abi::status::invalid_register_value:
    case abi::status::access_denied:
    case abi::status::operation_denied:
    case abi::status::not_found:
    case abi::status::processor_feature_not_supported:
        return true;
    default:
        return false;
    }
}

Error about(std::string_view activity, std::uint32_t name, const HypercallOutcome& outcome) {
    return hypercall_error(fmt::format("{} register {:#x}", activity, name), outcome);
}

} // namespace

HypercallOutcome
VpRegisters::try_read(std::span<const std::uint32_t> names, abi::RegisterValue* into) const {
    ReadInput input;
    input.header.vp_index = index_;
    std::ranges::copy(names, input.names.begin());
    return vp_.try_hypercall(
        {.name = {},
         .code = hypercalls::get_vp_registers,
         .input = &input,
         .input_size = sizeof(input.header) + names.size_bytes(),
         .output = into,
         .output_size = names.size() * sizeof(abi::RegisterValue),
         .reps = static_cast<std::uint16_t>(names.size())});
}

HypercallOutcome VpRegisters::try_write(std::span<const NamedValue> values) const {
    WriteInput input;
    input.header.vp_index = index_;
    std::ranges::transform(values, input.values.begin(), [](const NamedValue& one) {
        return hypercalls::RegisterAssociation{.name = one.name, .value = one.value};
    });
    return vp_.try_hypercall(
        {.name = {},
         .code = hypercalls::set_vp_registers,
         .input = &input,
         .input_size =
             sizeof(input.header) + values.size() * sizeof(hypercalls::RegisterAssociation),
         .reps = static_cast<std::uint16_t>(values.size())});
}

Result<std::vector<abi::RegisterValue>>
VpRegisters::read(std::span<const std::uint32_t> names) const {
    std::vector<abi::RegisterValue> values(names.size());
    for (std::size_t at = 0; at < names.size(); at += batch) {
        const auto part = names.subspan(at, std::min(batch, names.size() - at));
        const auto outcome = try_read(part, &values[at]);
        if (outcome.error != 0 || outcome.reps != part.size()) {
            const auto failed = std::min<std::size_t>(outcome.reps, part.size() - 1);
            return fail(about("reading", part[failed], outcome));
        }
    }
    return values;
}

Result<abi::RegisterValue> VpRegisters::read(std::uint32_t name) const {
    const auto values = read(std::span{&name, 1});
    if (!values) {
        return fail(values.error());
    }
    return values->front();
}

Status VpRegisters::write(std::span<const NamedValue> values) const {
    for (std::size_t at = 0; at < values.size(); at += batch) {
        const auto part = values.subspan(at, std::min(batch, values.size() - at));
        const auto outcome = try_write(part);
        if (outcome.error != 0 || outcome.reps != part.size()) {
            const auto failed = std::min<std::size_t>(outcome.reps, part.size() - 1);
            return fail(about("writing", part[failed].name, outcome));
        }
    }
    return {};
}

Result<std::vector<NamedValue>>
VpRegisters::read_present(std::span<const std::uint32_t> names) const {
    std::vector<NamedValue> present;
    std::array<abi::RegisterValue, batch> values{};
    std::size_t at = 0;
    while (at < names.size()) {
        // A call that fails returns no values, only how many there would have been.
        auto part = names.subspan(at, std::min(batch, names.size() - at));
        auto outcome = try_read(part, values.data());
        const bool skips_one = outcome.error != 0 && outcome.reps < part.size();
        if (skips_one) {
            if (!is_about_the_register(outcome)) {
                return fail(about("reading", part[outcome.reps], outcome));
            }
            part = part.first(outcome.reps);
            outcome = part.empty() ? HypercallOutcome{} : try_read(part, values.data());
        }
        if (outcome.error != 0 || outcome.reps != part.size()) {
            return fail(about("reading", names[at], outcome));
        }
        for (std::size_t i = 0; i < part.size(); ++i) {
            present.push_back({part[i], values[i]});
        }
        at += part.size() + (skips_one ? 1 : 0);
    }
    return present;
}

Result<std::vector<NamedValue>>
VpRegisters::write_accepted(std::span<const NamedValue> values) const {
    std::vector<NamedValue> refused;
    std::size_t at = 0;
    while (at < values.size()) {
        const auto part = values.subspan(at, std::min(batch, values.size() - at));
        const auto outcome = try_write(part);
        if (outcome.error == 0 && outcome.reps == part.size()) {
            at += part.size();
            continue;
        }
        const auto done = std::min<std::size_t>(outcome.reps, part.size() - 1);
        if (!is_about_the_register(outcome)) {
            return fail(about("writing", part[done].name, outcome));
        }
        refused.push_back(part[done]);
        at += done + 1;
    }
    return refused;
}

} // namespace wherry::vmm::mshv
