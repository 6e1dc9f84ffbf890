// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/image/image_chain.hpp"
#include "migrate/image/image_reader.hpp"
#include "migrate/image/image_writer.hpp"
#include "migrate/plan.hpp"
#include "vmm/machine.hpp"

#include <filesystem>

namespace wherry::migrate {

/// What the image of a machine's guest says of it: as given, but for all of the plan except names
/// and whether it stays paused. `populated` pages have been touched.
ImageDescription
describe_guest(vmm::Machine& machine, ImageDescription given, formats::PageCount populated);
/// An image of so many pages is not larger.
formats::Bytes image_size_at_most(formats::PageCount pages);

/// Writes the guest of a paused machine to a new file, as the description says; what `absent` names
/// is left out. The description's plan and number of absent pages are filled in here, but for
/// names. With a base, which options do not name, only what differs from it is written. Blocks for
/// as long as the disk takes.
formats::Status write_guest(
    vmm::Machine& machine,
    ImageDescription description,
    const dirtylog::DirtySet& absent,
    const std::filesystem::path& path,
    const ImageOptions& options,
    ImageChain* base = nullptr);

/// Both halves of one migration make the guest as it is: the destination's state and pages, and of
/// the source's pages those that never came. `invalid_argument`, saying why, for any other pair.
formats::Status join_halves(
    ImageReader& source,
    ImageReader& destination,
    const std::filesystem::path& path,
    const ImageOptions& options);

} // namespace wherry::migrate
