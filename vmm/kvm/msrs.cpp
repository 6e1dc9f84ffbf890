// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/msrs.hpp"

#include "vmm/kvm/abi.hpp"
#include "vmm/kvm/system.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace wherry::vmm::kvm {

using formats::ErrorCode;
using formats::fail;
using formats::Result;
using formats::Status;

namespace {
constexpr std::size_t batch = abi::MsrTable{}.entries.size();

/// What the vCPU has now; nothing where it does not say.
Result<std::vector<Msr>> current(int vcpu, std::uint32_t index) {
    auto reading = read_msrs(vcpu, std::span{&index, 1});
    if (!reading) {
        return fail(std::move(reading.error()));
    }
    return std::move(reading->msrs);
}

Status judge_refusal(int vcpu, const Msr& refused) {
    if (refused.value == 0) {
        return {};
    }
    const auto present = current(vcpu, refused.index);
    if (!present) {
        return fail(present.error());
    }
    if (!present->empty() && present->front().value == refused.value) {
        return {};
    }
    return fail(
        ErrorCode::incompatible,
        fmt::format(
            "this host's KVM does not take MSR {:#x} = {:#x}", refused.index, refused.value));
}

} // namespace

Result<MsrReading> read_msrs(int vcpu, std::span<const std::uint32_t> indices) {
    MsrReading reading;
    std::size_t at = 0;
    while (at < indices.size()) {
        const auto part = indices.subspan(at, std::min(batch, indices.size() - at));
        abi::MsrTable table;
        table.count = static_cast<std::uint32_t>(part.size());
        for (std::size_t i = 0; i < part.size(); ++i) {
            table.entries[i].index = part[i];
        }
        // The kernel stops at the first it cannot read and says how many came before.
        const auto got = call(vcpu, abi::get_msrs, &table, "KVM_GET_MSRS");
        if (!got) {
            return fail(got.error());
        }
        const auto done = static_cast<std::size_t>(*got);
        for (std::size_t i = 0; i < done; ++i) {
            reading.msrs.push_back({table.entries[i].index, table.entries[i].data});
        }
        at += done;
        if (done < part.size()) {
            reading.unreadable.push_back(part[done]);
            ++at;
        }
    }
    return reading;
}

Status write_msrs(int vcpu, std::span<const Msr> msrs) {
    std::size_t at = 0;
    while (at < msrs.size()) {
        const auto part = msrs.subspan(at, std::min(batch, msrs.size() - at));
        abi::MsrTable table;
        table.count = static_cast<std::uint32_t>(part.size());
        for (std::size_t i = 0; i < part.size(); ++i) {
            table.entries[i].index = part[i].index;
            table.entries[i].data = part[i].value;
        }
        const auto set = call(vcpu, abi::set_msrs, &table, "KVM_SET_MSRS");
        if (!set) {
            return fail(set.error());
        }
        const auto done = static_cast<std::size_t>(*set);
        at += done;
        if (done < part.size()) {
            if (auto judged = judge_refusal(vcpu, part[done]); !judged) {
                return judged;
            }
            ++at;
        }
    }
    return {};
}

} // namespace wherry::vmm::kvm
