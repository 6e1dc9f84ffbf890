// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "migrate/ownership/owner.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace wherry::migrate {

/// As in tests/model/destination.pml. `loaded` there is a part of accepting here: ACCEPTED is
/// written while the rest still arrives.
enum class DestinationOwnerState : std::uint8_t {
    idle,       ///< idle to filling: nothing is here that could be the guest
    accepting,  ///< offered; ACCEPTED is on its way to the disk, the guest is being loaded
    accepted,   ///< holds a whole copy, has said so, and waits
    in_doubt,   ///< who has it is not known here, and is asked
    starting,   ///< it is this side's; RUNNING is on its way to the disk
    launching,  ///< about to run
    faulting,   ///< post-copy: runs, and pages are still missing
    done,       ///< runs, or did when this was last known; nothing is missing
    abandoning, ///< ABANDONED is on its way to the disk
    abandoned,  ///< never ran it, never will
    lost,       ///< it is this side's and does not run: it died with its process, or does not start
    split,      ///< post-copy: half of its memory is gone
    salvaging,  ///< SALVAGED is on its way to the disk
    salvaged,   ///< never runs again from here
};

/// The destination's half; survives any number of attempts. See Owner.
class DestinationOwner final : public Owner {
public:
    /// Of a process in which the VM is to arrive, or had arrived. `last` is the record of this
    /// VM's journal here, if it has one: a destination's, or a source's that handed it off.
    static std::unique_ptr<DestinationOwner>
    restarted(std::optional<OwnershipRecord> last, Patience patience);

    /// Of a VM that arrived in this process and is here, with nothing missing. `last` is RUNNING or
    /// DONE.
    static std::unique_ptr<DestinationOwner> holding(OwnershipRecord last, Patience patience);

    /// Of a VM that arrived here, died with its process and was booted afresh in this one: what it
    /// was then is lost, and its source may know. Writes nothing. `last` is RUNNING or DONE.
    static std::unique_ptr<DestinationOwner> booted_again(OwnershipRecord last, Patience patience);

    [[nodiscard]] DestinationOwnerState state() const noexcept { return state_; }
    [[nodiscard]] OwnershipStatus status() const override;
    [[nodiscard]] CommitPoint commit_point() const override;

private:
    using State = DestinationOwnerState;
    struct Rule; ///< what a message leads to, and when
    static std::span<const Rule> rules();

    DestinationOwner(State state, std::optional<OwnershipRecord> last, Patience patience)
        : Owner{std::move(last), patience},
          state_{state} {}

    void on_begin() override;
    void on_event(const OwnershipEvent& event) override;
    void on_written() override;
    bool on_write_failed() override;
    void on_wait_over() override;
    void on_retry() override;
    formats::Status on_resolve(Keep keep, Assurance assurance) override;
    formats::Status on_salvage() override;
    formats::Status on_end_here() override;
    formats::Status on_boot_again() override;

    void on_offered(const event::Offered& offer);
    void on_message(const event::Received& message);
    void on_connected(const Attempt& attempt);
    void on_failed(const std::string& reason);
    void on_cancelled();
    void on_arbiter();
    void on_arbiter_unreachable();
    void on_started();

    void accept_if_ready();
    void doubt();
    void start();
    void abandon();
    void settle_with_arbiter();
    void complete_if_ready();
    void split();
    void say_accept() { send(MessageKind::accept); }
    void tell();
    void tell_lost();
    void refuse_unheard(Epoch epoch);

    // When a rule holds; the names are those of destination.pml.
    [[nodiscard]] bool waits() const;
    [[nodiscard]] bool waits_locally() const { return waits() && !is_shared(); }
    [[nodiscard]] bool waits_or_accepting() const;
    [[nodiscard]] bool has_run_it() const;
    [[nodiscard]] bool is_lost() const { return state_ == State::lost && !has_memory_; }
    [[nodiscard]] bool has_not_started() const;
    [[nodiscard]] bool may_split() const;
    [[nodiscard]] bool has_nothing() const;

    [[nodiscard]] bool is_restarted_owner() const;
    [[nodiscard]] std::string sentence() const;
    void enter(State state);

    State state_;
    Attempt peers_attempt_;       ///< what the source said of itself last
    std::optional<Epoch> loaded_; ///< for which offer, also one that has not come yet
    bool has_last_page_ = false;
};

std::string_view name_of(DestinationOwnerState state) noexcept;

} // namespace wherry::migrate
