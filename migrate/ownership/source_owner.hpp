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

/// As in tests/model/source.pml. `given_up` there lies between two actions here.
enum class SourceOwnerState : std::uint8_t {
    precopy,     ///< idle to precopy: it is held, and runs
    offering,    ///< it stands still; OFFERED is on its way to the disk (and the arbiter)
    offer,       ///< offered; the destination's word is awaited
    committing,  ///< local: COMMITTED is on its way to the disk
    committed,   ///< given up; the destination's word is awaited
    in_doubt,    ///< who has it is not known here, and is asked
    serving,     ///< post-copy: the destination runs it and gets the pages it misses
    reclaiming,  ///< RECLAIMED is on its way to the arbiter and the disk
    resuming,    ///< taken back; about to go on
    reclaimed,   ///< taken back; runs
    handing_off, ///< HANDED_OFF is on its way to the disk
    handed_off,  ///< the destination has it; nothing is here
    lost,      ///< it is this side's and does not run: it died with its process, or does not start
    split,     ///< post-copy: half of its memory is gone
    salvaging, ///< SALVAGED is on its way to the disk
    salvaged,  ///< never runs again from here
};

/// The source's half; survives any number of attempts. See Owner.
class SourceOwner final : public Owner {
    using State = SourceOwnerState;

public:
    /// Of a VM that is here, at `epoch`. `last` is the journal's record, if it has any.
    static std::unique_ptr<SourceOwner>
    holding(Epoch epoch, std::optional<OwnershipRecord> last, Patience patience);
    /// Of a process that has started again: the guest's memory is gone. `last` is a source's
    /// record (or none: the VM never moved); a destination's is DestinationOwner's.
    static std::unique_ptr<SourceOwner>
    restarted(std::optional<OwnershipRecord> last, Patience patience);

    [[nodiscard]] SourceOwnerState state() const noexcept { return state_; }
    /// Whether the destination is to be reached where the connection is gone.
    [[nodiscard]] bool needs_peer() const;
    [[nodiscard]] OwnershipStatus status() const override;
    [[nodiscard]] CommitPoint commit_point() const override;
    /// The VM was taken back, and the destination has not confirmed that it knows.
    [[nodiscard]] bool owes_word() const noexcept {
        return owed_ && (state_ == State::reclaimed || state_ == State::lost);
    }

private:
    struct Rule; ///< what a message leads to, and when
    static std::span<const Rule> rules();

    SourceOwner(State state, std::optional<OwnershipRecord> last, Patience patience)
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

    void on_stopped(const Attempt& attempt);
    void on_message(const event::Received& message);
    void on_connected();
    void on_disconnected(const std::string& reason);
    void on_arbiter();
    void on_arbiter_unreachable();
    void on_started();

    void take_back_because(const std::string& reason);
    void tell_taken_back();
    void offer_if_ready();
    void commit();
    void repeat_commit();
    void become_committed(State then);
    void after_committed();
    void hear_committed();
    void doubt();
    void reclaim();
    void give_back_to_guest();
    void serve();
    void hear_lost();
    void hand_off();
    void tell_pages_lost();
    void read_arbiter();
    void say_again();

    // When a rule holds; the names are those of source.pml.
    [[nodiscard]] bool is_offer() const { return state_ == State::offer; }
    [[nodiscard]] bool may_commit() const;
    [[nodiscard]] bool has_committed() const;
    [[nodiscard]] bool listens() const;
    [[nodiscard]] bool listens_whole() const { return listens() && !attempt_.pages_missing; }
    [[nodiscard]] bool listens_missing() const { return listens() && attempt_.pages_missing; }
    [[nodiscard]] bool is_refused_locally() const;
    [[nodiscard]] bool is_refused_by_arbiters_owner() const;
    [[nodiscard]] bool may_hear_lost() const;
    [[nodiscard]] bool may_complete() const;
    [[nodiscard]] bool is_split_without_memory() const;

    [[nodiscard]] bool is_undecided() const;
    [[nodiscard]] bool is_before_arbiter() const;
    [[nodiscard]] std::optional<ArbiterRecord> wanted() const;
    [[nodiscard]] Asker asker() const;
    [[nodiscard]] std::string sentence() const;
    void enter(State state);

    State state_;
    State then_ = State::committed; ///< what follows COMMITTED
    bool all_sent_ = false;
    bool arbiter_has_offer_ = false;
    bool offer_left_ = true; ///< or may have: a destination may accept it
    /// The last offer that left, where the destination may wait with it and has not refused it.
    std::optional<Epoch> owed_;
    std::optional<RecordKind> wish_; ///< what the arbiter is to say
    bool is_fenced_ = false;         ///< by a person's word
};

std::string_view name_of(SourceOwnerState state) noexcept;

} // namespace wherry::migrate
