// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/custody.hpp"
#include "migrate/ownership/action.hpp"
#include "migrate/ownership/event.hpp"

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

namespace wherry::migrate {

/// How long a side waits before it goes on in another way. None of it decides who has the VM.
struct Patience {
    OwnershipDuration reply =
        std::chrono::seconds{30}; ///< for a word of the peer's while both live
    /// Source that restarted with its offer open: for a destination that may hold the only whole
    /// copy. Afterwards the VM is booted again.
    OwnershipDuration rescue = std::chrono::seconds{60};
    OwnershipDuration first_retry = std::chrono::milliseconds{200}; ///< doubled each time
    OwnershipDuration longest_retry = std::chrono::seconds{30};
};

/// What a cancel meets.
enum class CommitPoint : std::uint8_t {
    ahead,           ///< the guest stays with the source
    behind,          ///< too late: it is not this side's choice any more
    arbiter_decides, ///< it will be one or the other, which the state says as soon as it is known
};

/// What a person knows beside which side is to be kept.
enum class Assurance : std::uint8_t {
    none,
    destination_is_dead, ///< its host, for good: overrules what a shared arbiter has committed
    arbiter_is_gone,     ///< for good: the person decides as with arbiter `local`
};

/// What `wherry status` shows.
struct OwnershipStatus {
    std::string_view state; ///< as in tests/model, with hyphens
    Custody custody{};
    Epoch epoch{};
    std::string sentence; ///< what is waited for, or how it ended
};

/// One side of the hand-over, without I/O: what happens goes in, what is to be done comes out. It
/// decides who may run the guest, by the rules that tests/model proves and docs/design.md words.
///
/// Whoever carries the actions out gives each outcome back, and any event at any time: what comes
/// while a record is being written or a guest started is held back here until that is over.
/// One thread.
class Owner {
public:
    Owner(const Owner&) = delete;
    Owner& operator=(const Owner&) = delete;
    virtual ~Owner() = default;

    /// Once, before all else: what a restarted process does at once.
    OwnershipActions begin();
    OwnershipActions handle(const OwnershipEvent& event);

    // A person's. wrong_state with the reason where it would be wrong, or cannot be now.
    formats::Result<OwnershipActions> resolve(Keep keep, Assurance assurance = Assurance::none);
    /// The guest never runs again from here; when the state is `salvaged` its half may be written.
    formats::Result<OwnershipActions> salvage();
    /// Stops a guest that waits for memory which does not come: this process may then end with what
    /// it has of it, as if it had died, and the VM is to be booted.
    formats::Result<OwnershipActions> end_here();
    /// A VM that is this side's and died here with its process, or did not start.
    formats::Result<OwnershipActions> boot_again();

    [[nodiscard]] virtual OwnershipStatus status() const = 0;
    [[nodiscard]] virtual CommitPoint commit_point() const = 0;
    [[nodiscard]] Epoch epoch() const noexcept { return epoch_; }
    /// Why what is under way here does not succeed; empty: nothing is in its way.
    [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }
    /// The last that was written here, or was found after a restart.
    [[nodiscard]] const std::optional<OwnershipRecord>& record() const noexcept { return record_; }
    /// Whether a record is being written or a guest started.
    [[nodiscard]] bool is_busy() const noexcept { return is_writing_ || is_starting_; }

protected:
    Owner(std::optional<OwnershipRecord> last, Patience patience);

    virtual void on_begin() = 0;
    /// All but what the functions below are for.
    virtual void on_event(const OwnershipEvent& event) = 0;
    virtual void on_written() = 0;
    /// Whether it is to be tried again.
    virtual bool on_write_failed() = 0;
    virtual void on_wait_over() = 0;
    virtual void on_retry() = 0;
    virtual formats::Status on_resolve(Keep keep, Assurance assurance) = 0;
    virtual formats::Status on_salvage() = 0;
    virtual formats::Status on_end_here() = 0;
    virtual formats::Status on_boot_again() = 0;

    void send(MessageKind kind) { send(kind, epoch_); }
    void send(MessageKind kind, Epoch epoch);
    /// on_written() follows, if need be after trying again; a later write() takes its place.
    void write(RecordKind kind, Epoch epoch);
    void start_guest();
    void stop_guest() { add(action::StopGuest{}); }
    void drop_memory();
    void connect();
    /// Does nothing while an answer is due: that comes first, and is judged then.
    void ask_arbiter(std::optional<ArbiterRecord> wanted, Asker asker);
    /// Asks at once, or a little later where that was just asked in vain.
    void pursue(std::optional<ArbiterRecord> wanted, Asker asker);

    void wait_for(OwnershipDuration limit);
    /// After a while that is longer each time; does nothing where that is to come already.
    void retry_later();
    /// A new state waits for nothing of the old one.
    void stop_timers();

    [[nodiscard]] bool is_on_disk(RecordKind kind) const {
        return record_ && record_->kind == kind && record_->epoch == epoch_;
    }
    [[nodiscard]] bool is_asking_arbiter() const noexcept { return is_asking_; }
    /// It did not answer the last question.
    [[nodiscard]] bool is_arbiter_away() const noexcept { return is_arbiter_away_; }
    [[nodiscard]] bool is_shared() const { return attempt_.has_shared_arbiter(); }
    [[nodiscard]] bool arbiter_says(RecordKind kind, Epoch epoch) const {
        return arbiter_record_ == ArbiterRecord{kind, epoch};
    }
    [[nodiscard]] bool arbiter_is_beyond(Epoch epoch) const {
        return arbiter_record_ && arbiter_record_->epoch > epoch;
    }
    [[nodiscard]] const Patience& patience() const noexcept { return patience_; }
    /// A person's word that would be wrong, or cannot be followed now.
    [[nodiscard]] static formats::Status refuse(std::string why);
    /// A sentence with what is in its way, if anything is.
    [[nodiscard]] std::string with_trouble(std::string sentence) const;

    Epoch epoch_{};
    Attempt attempt_;
    std::optional<OwnershipRecord> record_;
    std::optional<ArbiterRecord> arbiter_record_; ///< as it was read last
    bool has_memory_ = false;
    bool is_connected_ = false;
    std::string reason_; ///< why things went this way

private:
    void add(OwnershipAction action) { actions_.push_back(std::move(action)); }
    void apply(const OwnershipEvent& event);
    void apply_held_back();
    bool is_answer_to_action(const OwnershipEvent& event) const;
    void on_timer(std::uint64_t serial);
    void arm(action::Timer timer, OwnershipDuration after, std::uint64_t& serial);
    template <typename Call>
    formats::Result<OwnershipActions> at_a_persons_word(Call call);
    formats::Status resolve_without_arbiter(Keep keep);

    Patience patience_;
    OwnershipActions actions_;
    std::deque<OwnershipEvent> held_back_;
    std::optional<OwnershipRecord> unwritten_; ///< under way, or to be tried again
    bool is_writing_ = false;
    bool is_starting_ = false;
    bool is_asking_ = false;
    bool is_connecting_ = false;
    bool is_arbiter_away_ = false;
    std::optional<ArbiterRecord> asked_for_;
    std::string trouble_; ///< why what is under way does not succeed
    OwnershipDuration next_retry_;
    std::uint64_t last_serial_ = 0;
    std::uint64_t wait_serial_ = 0; ///< 0: none is armed
    std::uint64_t retry_serial_ = 0;
};

} // namespace wherry::migrate
