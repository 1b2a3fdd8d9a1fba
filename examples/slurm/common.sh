# shellcheck shell=bash disable=SC2034
# What the batch scripts share; they source it. What you may set before submitting:
#   CONTAINER      an image; unset: the Python environment that is active when you submit
#                  *.sif is run by Apptainer, anything else (*.sqsh, docker://...) by pyxis
#   MOUNTS         more folders for the container, src:dst,src:dst (the folder you submit from is mounted as it is)
#   LOST_AFTER     a job that loses a process is queued again if it had run for this many seconds (600); sooner, it would only be lost again

step_options=() # of srun
inside=()       # before the command
case ${CONTAINER:-} in
  "") ;;
  *.sif) inside=(apptainer exec --nv --bind "$PWD${MOUNTS:+,$MOUNTS}" --pwd "$PWD" "$CONTAINER") ;;
  *) step_options=(--container-image="$CONTAINER" --container-mounts="$PWD:$PWD${MOUNTS:+,$MOUNTS}" --container-workdir="$PWD") ;;
esac

say() { echo "$(date +%FT%T) job $SLURM_JOB_ID${SLURM_RESTART_COUNT:+, start $((SLURM_RESTART_COUNT + 1))}: $*"; }

# Run a step and let it save when a signal comes: before the time limit, or when the job is preempted (--signal=B:USR1@...).
# Sets: code, the step's exit code; stopping, where a signal came.
code=0 stopping=
run_step() {
  local interrupted
  srun "${step_options[@]}" "$@" &
  step=$!
  trap 'stopping=1 interrupted=1; say "told to stop: saving"; kill -USR1 $step 2>/dev/null || true' USR1 TERM
  while :; do # a signal ends wait before the step has ended
    interrupted=
    code=0
    wait "$step" || code=$?
    [ -n "$interrupted" ] || break
  done
}

# End the job as its last step ended: well, in the queue again where it only was interrupted, or failed.
finish() {
  if [ "$code" = 0 ]; then
    say "finished"
    exit 0
  elif [ "$code" = 3 ]; then # stopped and saved
    stopping=1
  elif { [ "$code" = 4 ] || [ "$code" -gt 128 ]; } && [ $SECONDS -ge "${LOST_AFTER:-600}" ]; then # a process was lost; what is saved is good
    stopping=1
  fi
  # a job that was cancelled is not running any more: it must not come back
  if [ -n "$stopping" ] && [ "$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%T)" = RUNNING ]; then
    say "ended with $code, queued again: goes on from the last checkpoint"
    trap - USR1 TERM
    scontrol requeue "$SLURM_JOB_ID" # ends this script
    sleep 60
  fi
  say "ended with $code"
  exit "$code"
}
