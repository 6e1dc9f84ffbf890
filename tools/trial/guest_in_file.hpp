// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/image/image_options.hpp"
#include "tools/trial/guest_log.hpp"
#include "vmm/machine.hpp"

#include <chrono>
#include <filesystem>
#include <string>

namespace wherry::tools {

/// The test guest, stopped in the middle of its work.
struct GuestInFileOptions {
    std::filesystem::path guest; ///< its ELF
    vmm::HypervisorChoice hypervisor = vmm::HypervisorChoice::automatic;
    formats::Bytes memory{0};
    std::string guest_options;
    std::size_t reports = 3; ///< that it makes before
    std::chrono::seconds patience{300};
    migrate::ImageOptions image{}; ///< how it is written
};

/// Runs it in this process, and writes it to a new image as a snapshot of a VM called "guest". Its
/// last report before that. What it writes to its serial port goes to `log`, a new file.
formats::Result<GuestReport> write_guest_in_file(
    const GuestInFileOptions& options,
    const std::filesystem::path& log,
    const std::filesystem::path& image);

} // namespace wherry::tools
