// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "vmm/unique_fd.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::tools {

/// Where the instances of this user have their sockets: $XDG_RUNTIME_DIR/wherry, else
/// /run/wherry. Created, mode 0700, by the first instance.
std::filesystem::path instance_directory();

/// A name's right to exist, held by one process at a time: a locked file beside the socket, so
/// that a dead instance never blocks its name and a live one is never replaced.
class InstanceName {
public:
    /// Refuses names that are not 1-64 letters, digits, '.', '-' or '_' and names in use, saying
    /// by which process.
    static formats::Result<InstanceName> claim(std::string_view name);
    InstanceName(InstanceName&&) noexcept = default;
    InstanceName& operator=(InstanceName&&) = delete;
    InstanceName(const InstanceName&) = delete;
    InstanceName& operator=(const InstanceName&) = delete;
    ~InstanceName();

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::filesystem::path socket() const;

    /// Takes the name out of the directory: `ps` no longer shows it, connections that are open
    /// stay. Idempotent.
    void release() noexcept;

private:
    InstanceName(std::string name, vmm::UniqueFd lock);
    std::string name_;
    vmm::UniqueFd lock_;
};

/// The socket of the instance called `name`; not_found, listing the names there are, where there
/// is none.
formats::Result<std::filesystem::path> find_instance(std::string_view name);
/// Names of the instances that are alive, sorted.
std::vector<std::string> list_instances();

} // namespace wherry::tools
