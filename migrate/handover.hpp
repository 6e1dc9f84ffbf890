// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "formats/result.hpp"
#include "migrate/custody.hpp"
#include "migrate/epoch.hpp"
#include "vmm/machine.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>

/// Who may run the guest, and the one moment at which that changes.
///
///     source                                          destination
///     PausedGuest ---------------- offer(e+1) ------> loads, then holds LoadedGuest
///        |        <--------------- accept(e+1) ------ accept(): from here it cannot know
///     commit()    THE COMMIT POINT: the PausedGuest is consumed; nothing can resume it
///     GivenUpGuest --------------- commit(e+1) -----> run(): only with the commit in hand
///        |        <--------------- running(e+1) -----
///     confirmed
///
/// Before commit() the source alone decides and a failure resumes the guest there. From commit()
/// on the source never resumes by itself: either it hears `running` or it is in doubt.
namespace wherry::migrate {

/// A guest that no one may run until a person decides. The right to do so cannot be copied.
class InDoubtGuest {
public:
    /// `machine` outlives this. `here` is the side it is on.
    InDoubtGuest(vmm::Machine& machine, Keep here, Epoch epoch) noexcept
        : machine_{&machine},
          here_{here},
          epoch_{epoch} {}
    [[nodiscard]] Keep here() const noexcept { return here_; }
    [[nodiscard]] Epoch epoch() const noexcept { return epoch_; }

    /// Carries the decision out on this side: resumes the guest if it is to be kept here, else
    /// leaves it paused for the caller to destroy. It is for the person to make sure that the
    /// other side hears the same. When resuming fails the guest is still in doubt.
    formats::Result<Custody> resolve(Keep keep);

private:
    vmm::Machine* machine_;
    Keep here_;
    Epoch epoch_;
};

/// A guest given up: there is no way from here to a running guest on the source but a person's.
class GivenUpGuest {
public:
    [[nodiscard]] InDoubtGuest in_doubt() && noexcept { return {*machine_, Keep::source, epoch_}; }

private:
    friend class PausedGuest;
    GivenUpGuest(vmm::Machine& machine, Epoch epoch) noexcept : machine_{&machine}, epoch_{epoch} {}
    vmm::Machine* machine_;
    Epoch epoch_;
};

/// The source's guest while it stands still for a migration. Goes on as it was before when this
/// is dropped; commit() takes that away.
class PausedGuest {
public:
    /// Stops the guest. A guest that was paused before stays so afterwards.
    static formats::Result<PausedGuest> pause(vmm::Machine& machine);
    PausedGuest(PausedGuest&& other) noexcept;
    PausedGuest& operator=(PausedGuest&&) = delete;
    PausedGuest(const PausedGuest&) = delete;
    PausedGuest& operator=(const PausedGuest&) = delete;
    ~PausedGuest();

    /// Lets it go on as it was.
    formats::Status take_back() &&;
    /// The commit point. `accepted` is what the destination said it accepts.
    [[nodiscard]] GivenUpGuest commit(Epoch accepted) && noexcept;

private:
    PausedGuest(vmm::Machine& machine, bool ran) noexcept : machine_{&machine}, ran_{ran} {}
    vmm::Machine* machine_; ///< nullptr once consumed
    bool ran_;
};

/// The source's half of the conversation, without I/O: what may follow what, for one epoch.
class SourceHandover {
public:
    explicit SourceHandover(Epoch current) noexcept : offered_{next(current)} {}
    /// The epoch to offer, once.
    Epoch offer();
    /// protocol if this is not the answer to our offer.
    formats::Status on_accept(Epoch epoch);
    /// Once accepted: gives the guest up.
    GivenUpGuest commit(PausedGuest guest);
    formats::Status on_running(Epoch epoch);
    [[nodiscard]] Custody custody() const noexcept;
    /// Of the guest if it stays on this side.
    [[nodiscard]] Epoch epoch_if_kept() const noexcept;

private:
    enum class State : std::uint8_t { holding, offered, accepted, committed, confirmed };
    Epoch offered_;
    State state_ = State::holding;
};

/// The destination's half.
class DestinationHandover {
public:
    /// `current` is the epoch that the source began with.
    explicit DestinationHandover(Epoch current) noexcept : epoch_{next(current)} {}
    formats::Status on_offer(Epoch epoch);
    /// The guest is loaded and the offer in hand: says yes, once. From here custody is not known.
    Epoch accept();
    formats::Status on_commit(Epoch epoch);
    [[nodiscard]] Epoch epoch() const noexcept { return epoch_; }
    [[nodiscard]] bool may_run() const noexcept { return state_ == State::committed; }
    [[nodiscard]] Custody custody() const noexcept;

private:
    enum class State : std::uint8_t { empty, offered, accepted, committed };
    Epoch epoch_;
    State state_ = State::empty;
};

} // namespace wherry::migrate
