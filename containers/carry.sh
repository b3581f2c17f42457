#!/bin/sh
# What a recipe installs, as files, for a build where there is no network. Run it in the checkout, inside the base image:
#
#   mkdir carried
#   apptainer exec --fakeroot --writable-tmpfs --bind carried:/mnt base.sif sh containers/carry.sh
#
#   carry.sh [all | packages | wheels] [FOLDER] [RECIPE]   Debian packages, Python wheels, or both (default), into /mnt,
#                                                          for containers/exec.def
set -eu

what=${1:-all}
folder=${2:-/mnt}
# The recipe says what and in which version.
recipe=${3:-containers/exec.def}
packages=$(sed -n 's/^ *PACKAGES=//p' "$recipe")
wanted=$(sed -n "s/.* pip install .*'\(.*\)'\$/\1/p" "$recipe")

if [ "$what" != wheels ]; then
    # without root there is one user only, and apt must not want to become another
    apt-get -qq -o APT::Sandbox::User=root update
    # shellcheck disable=SC2086  # several words
    apt-get -qq -y -o APT::Sandbox::User=root -o Dir::Cache::archives="$folder" \
        install --download-only --no-install-recommends $packages
    rm -rf "$folder/lock" "$folder/partial"
fi
if [ "$what" != packages ]; then
    python3 -m pip download --quiet --dest "$folder" -c tools/constraints.txt "$wanted" setuptools wheel
fi
