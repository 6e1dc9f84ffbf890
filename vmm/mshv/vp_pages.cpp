// SPDX-License-Identifier: Apache-2.0
#include "vmm/mshv/vp_pages.hpp"

#include "vmm/mshv/abi/ioctls.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

namespace wherry::vmm::mshv {

using formats::fail;
using formats::Result;
using formats::Status;

namespace {

struct alignas(abi::page_size) Page {
    std::array<std::byte, abi::page_size> bytes{};
};

std::vector<Page> pages_for(std::size_t size) {
    return std::vector<Page>(std::max<std::size_t>(1, (size + sizeof(Page) - 1) / sizeof(Page)));
}

Status move(
    const Descriptor& vp,
    std::uint64_t request,
    std::string_view name,
    std::uint8_t type,
    std::vector<Page>& pages) {
    abi::ioctls::VpState argument{
        .type = type,
        .buffer_size = static_cast<std::uint32_t>(pages.size() * sizeof(Page)),
        .buffer = reinterpret_cast<std::uintptr_t>(pages.data())};
    const auto done = vp.call(request, &argument, fmt::format("{} of component {}", name, type));
    return done ? Status{} : fail(done.error());
}

} // namespace

Result<std::vector<std::byte>>
read_vp_state(const Descriptor& vp, std::uint8_t type, std::size_t size) {
    auto pages = pages_for(size);
    const auto done = move(vp, abi::ioctls::get_vp_state, "MSHV_GET_VP_STATE", type, pages);
    if (!done) {
        return fail(done.error());
    }
    const auto bytes = std::as_bytes(std::span{pages}).first(size);
    return std::vector<std::byte>{bytes.begin(), bytes.end()};
}

Status write_vp_state(const Descriptor& vp, std::uint8_t type, std::span<const std::byte> state) {
    auto pages = pages_for(state.size());
    std::ranges::copy(state, std::as_writable_bytes(std::span{pages}).begin());
    return move(vp, abi::ioctls::set_vp_state, "MSHV_SET_VP_STATE", type, pages);
}

Result<abi::vp_state::Lapic> read_lapic(const Descriptor& vp) {
    const auto bytes = read_vp_state(vp, abi::vp_state::lapic, sizeof(abi::vp_state::Lapic));
    if (!bytes) {
        return fail(bytes.error());
    }
    abi::vp_state::Lapic lapic;
    std::memcpy(&lapic, bytes->data(), sizeof(lapic));
    return lapic;
}

Status write_lapic(const Descriptor& vp, const abi::vp_state::Lapic& lapic) {
    return write_vp_state(vp, abi::vp_state::lapic, std::as_bytes(std::span{&lapic, 1}));
}

} // namespace wherry::vmm::mshv
