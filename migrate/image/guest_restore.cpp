// SPDX-License-Identifier: Apache-2.0
#include "migrate/image/guest_restore.hpp"

#include "migrate/file_placement.hpp"
#include "vmm/platform_layout.hpp"
#include "vmm/saved_state.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <thread>
#include <utility>

namespace wherry::migrate {

using formats::ErrorCode;
using formats::fail;
using formats::PageRange;
using formats::Result;
using formats::Status;

namespace {

/// Beyond that memory is what is waited for.
constexpr unsigned most_threads = 8;

Status accept(const ImageDescription& image, std::string name, const HostOffer& host) {
    auto accepted = accept_plan(image.plan, host);
    return accepted ? Status{} : fail(std::move(accepted).error().during(std::move(name)));
}

Result<vmm::MachineState> state_of(ImageReader& image, vmm::Machine& machine) {
    if (auto fits = check_layout(image.description().plan, machine.memory()); !fits) {
        return fail(std::move(fits).error().during(image.name()));
    }
    const auto bytes = image.machine_state();
    if (!bytes) {
        return fail(bytes.error());
    }
    auto state = vmm::decode_machine_state(*bytes);
    if (!state) {
        return fail(std::move(state).error().during(image.name()));
    }
    return state;
}

/// All but memory, which is there, or missing but for the page of the generation id of a new VM.
Status restore_state(const vmm::MachineState& state, vmm::Machine& machine, RestoredAs as) {
    auto restored = machine.restore(state);
    if (restored && as == RestoredAs::new_vm) {
        restored = machine.begin_generation(vmm::GenerationId::make());
    }
    return restored;
}

/// `pages` is the image, or the chain that it is the youngest of.
template <typename Pages>
Status restore(ImageReader& image, Pages& pages, vmm::Machine& machine, RestoredAs as) {
    const auto state = state_of(image, machine);
    if (!state) {
        return fail(state.error());
    }
    const unsigned threads = std::clamp(std::thread::hardware_concurrency(), 1U, most_threads);
    FilePlacement placement{machine.memory()};
    auto placed = pages.for_each_run(
        [&placement](PageRange run, std::span<const std::byte> bytes) {
            return placement.place(run, bytes);
        },
        threads);
    return formats::then(std::move(placed), [&] { return restore_state(*state, machine, as); });
}

} // namespace

Status accept_image(const ImageChain& image, const HostOffer& host) {
    return accept(image.image().description(), image.name(), host);
}

Status accept_image(const ImageStream& image, const HostOffer& host) {
    return accept(image.description(), image.name(), host);
}

Status restore_guest(ImageReader& image, vmm::Machine& machine, RestoredAs as) {
    return restore(image, image, machine, as);
}

Status restore_guest(ImageChain& image, vmm::Machine& machine, RestoredAs as) {
    return restore(image.image(), image, machine, as);
}

Status restore_guest(ImageStream& image, vmm::Machine& machine, RestoredAs as) {
    if (auto fits = check_layout(image.description().plan, machine.memory()); !fits) {
        return fail(std::move(fits).error().during(image.name()));
    }
    FilePlacement placement{machine.memory()};
    if (auto placed = image.read_guest(placement); !placed) {
        return placed;
    }
    const auto state = vmm::decode_machine_state(image.machine_state());
    if (!state) {
        return fail(formats::Error{state.error()}.during(image.name()));
    }
    return restore_state(*state, machine, as);
}

Result<std::unique_ptr<LazyMemory>> restore_guest_lazily(
    ImageChain image,
    vmm::Machine& machine,
    RestoredAs as,
    LazyMemoryOptions options,
    LazyMemoryEvents events) {
    if (const auto& obstacle = machine.backend().postcopy_obstacle; !obstacle.empty()) {
        return fail(
            ErrorCode::unsupported,
            "a guest cannot run here before its memory is all there (restore it without --lazy): " +
                obstacle);
    }
    const auto state = state_of(image.image(), machine);
    if (!state) {
        return fail(state.error());
    }
    if (as == RestoredAs::new_vm && state->generation_id) {
        options.left_out =
            formats::PageRange::make(
                formats::gfn_of(vmm::platform_layout::generation_page), formats::PageCount{1})
                .value();
    }
    // Before the state: what restores that may touch a page, and waits for it as the guest would.
    auto memory = LazyMemory::arm(machine, std::move(image), std::move(options), std::move(events));
    if (!memory) {
        return memory;
    }
    auto restored = restore_state(*state, machine, as);
    if (!restored) {
        return fail(std::move(restored).error());
    }
    return memory;
}

} // namespace wherry::migrate
