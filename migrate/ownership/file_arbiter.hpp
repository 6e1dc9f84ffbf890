// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/arbiter.hpp"
#include "migrate/ownership/disk.hpp"

#include <filesystem>
#include <functional>

namespace wherry::migrate {

/// `file:DIR`: a directory that both hosts have mounted. It looks like this:
///
///     DIR/wherry-arbiter                 says that this is the directory, and that it is mounted
///     DIR/VM-ID/000001                   each change of the VM's record, a file of three lines;
///     DIR/VM-ID/000002                   the last one is the record
///     DIR/VM-ID/.new-RANDOM              left behind by a host that died; may be removed
///
/// A change is written to a file of its own, synced, and link(2)ed to the number behind the last
/// one: it is there whole or not at all, and of several who try, one wins, on NFS too. Files are
/// never changed or removed. What somebody else linked is synced by who reads it, before it is
/// believed. A reader on NFS may for a while see an older record than there is: that delays
/// it, and whatever it requests for it fails.
///
/// `limit` is not kept: a call to a file system cannot be given up. An NFS mount with `softerr`
/// ends such calls after a time of its own.
class FileArbiter final : public Arbiter {
public:
    using Opener = std::function<formats::Result<std::unique_ptr<Directory>>()>;

    explicit FileArbiter(std::filesystem::path directory);
    /// `open` is called for every call, so that what is mounted there now is what counts.
    FileArbiter(std::filesystem::path directory, Opener open);

    /// Makes DIR and its wherry-arbiter where they are missing; once, by a person or a set-up.
    static formats::Status prepare(const std::filesystem::path& directory);

    [[nodiscard]] std::string name() const override { return "file:" + directory_.string(); }

private:
    formats::Result<std::unique_ptr<Directory>> open_directory() const;
    formats::Result<Seen> look(const VmId& vm, Deadline deadline) override;
    formats::Result<bool>
    replace(const VmId& vm, const Seen& seen, std::string text, Deadline deadline) override;

    std::filesystem::path directory_;
    Opener open_;
};

} // namespace wherry::migrate
