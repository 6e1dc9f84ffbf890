// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/arbiter.hpp"
#include "migrate/ownership/file_journal.hpp"
#include "migrate/ownership/keeper.hpp"

#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace wherry::tools {

/// Where this user's journals are: $XDG_STATE_HOME/wherry; else /var/lib/wherry for root and
/// ~/.local/state/wherry for others. Unlike sockets they outlive a restart of the host.
std::filesystem::path state_directory();

/// Of whom, and of which connection, records are: JournalEntry says what each part is.
struct RecordOrigin {
    formats::Side side = formats::Side::source;
    std::string peer{};
    std::string tls_directory{};
    std::string listens_on{};
};

/// The journal of one VM on this host, and the arbiters that its migrations name. Thread-safe; it
/// blocks for as long as disk and arbiter take.
class InstanceKeeper final : public migrate::OwnershipKeeper {
public:
    /// Opens the journal of the VM of this name, or makes one. Error{already_exists} where another
    /// process has it and does not end within seconds.
    static formats::Result<std::unique_ptr<InstanceKeeper>> open(std::string_view vm_name);
    ~InstanceKeeper() = default;

    /// What the next records are of.
    void begin(RecordOrigin origin);
    /// Of the VM that is here now; made on the way where there was none.
    void set_vm_id(const migrate::VmId& id);
    [[nodiscard]] migrate::VmId vm_id() const;
    /// The last entry of the journal, if it has any.
    [[nodiscard]] std::optional<migrate::JournalEntry> last() const;
    /// The last that says that this VM came here, if it did: RUNNING or DONE.
    [[nodiscard]] std::optional<migrate::JournalEntry> arrival() const;
    /// Those of this VM, oldest first.
    [[nodiscard]] std::vector<migrate::OwnershipRecord> records_of(const migrate::VmId& vm) const;

    formats::Status write(const migrate::OwnershipRecord& record) override;
    formats::Result<std::optional<migrate::ArbiterRecord>>
    ask(const migrate::action::AskArbiter& question) override;

private:
    InstanceKeeper(std::string vm_name, std::unique_ptr<migrate::FileJournal> journal);

    const std::string vm_name_;
    mutable std::mutex journal_mutex_;
    std::unique_ptr<migrate::FileJournal> journal_;
    migrate::VmId vm_id_;
    RecordOrigin origin_;

    std::mutex arbiter_mutex_;
    std::string arbiter_name_;
    std::unique_ptr<migrate::Arbiter> arbiter_;
};

} // namespace wherry::tools
