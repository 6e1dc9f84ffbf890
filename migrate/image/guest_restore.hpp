// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/image_chain.hpp"
#include "migrate/image/image_stream.hpp"
#include "migrate/image/lazy_memory.hpp"
#include "migrate/plan.hpp"
#include "vmm/machine.hpp"

#include <cstdint>
#include <memory>

namespace wherry::migrate {

/// What a guest is once it is restored.
enum class RestoredAs : std::uint8_t {
    the_vm, ///< that the image is of
    new_vm, ///< with a VM generation id of its own, of which the guest is told once it runs
};

/// Refuses, naming everything, what cannot live on `host`.
formats::Status accept_image(const ImageChain& image, const HostOffer& host);
formats::Status accept_image(const ImageStream& image, const HostOffer& host);

// All into a fresh, paused machine that was made by the image's config and that nobody has touched.
// Whether the image may be restored is for the caller to know.

/// All of the guest; every chunk is checked before the first page of it is placed. Reads with
/// several threads and returns when they are done.
formats::Status restore_guest(ImageReader& image, vmm::Machine& machine, RestoredAs as);
formats::Status restore_guest(ImageChain& image, vmm::Machine& machine, RestoredAs as);
/// The same of an image that comes as a stream, on this thread; all of it has been found right when
/// this succeeds.
formats::Status restore_guest(ImageStream& image, vmm::Machine& machine, RestoredAs as);

/// The guest's state; its memory comes out of the image as it is touched, and ahead of that if the
/// options say so. `unsupported`, with the reason, where guests cannot run here while pages of them
/// are missing. `machine` outlives what is returned.
formats::Result<std::unique_ptr<LazyMemory>> restore_guest_lazily(
    ImageChain image,
    vmm::Machine& machine,
    RestoredAs as,
    LazyMemoryOptions options,
    LazyMemoryEvents events);

} // namespace wherry::migrate
