# SPDX-License-Identifier: MIT OR Apache-2.0
# What the scenarios build: `lower` is built into the lower store, the others on top of it.
let
  tools = /mnt/src/tools;
  make = name: script: extra: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "${tools}/bin/sh";
    args = [ "-euc" script ];
    PATH = "${tools}/bin";
  } // extra);
in rec {
  # A directory with depth, a program, a symlink and two equal files.
  lower = make "lower" ''
    mkdir -p $out/bin $out/share/deep/deeper
    printf '#!%s/bin/sh\necho "lower says $*"\n' ${tools} >$out/bin/lower
    chmod +x $out/bin/lower
    echo one >$out/share/one
    cp $out/share/one $out/share/deep/deeper/same
    ln -s ../one $out/share/deep/link
  '' { };

  # A directory that refers to the lower store.
  app = make "app" ''
    [ "$(${lower}/bin/lower hello)" = "lower says hello" ]
    [ "$(cat ${lower}/share/deep/link)" = one ]
    mkdir -p $out/bin $out/lib/many
    printf '#!%s/bin/sh\n%s/bin/lower app "$@"\n' ${tools} ${lower} >$out/bin/app
    chmod 0755 $out/bin/app
    ln -s ${lower}/share/one $out/lib/one
    echo hard >$out/lib/first
    ln $out/lib/first $out/lib/second
    i=0
    while [ $i -lt 500 ]; do echo $i >$out/lib/many/file-$i; i=$((i + 1)); done
  '' { };

  # Two outputs, over inputs of both layers; work in the build directory; renames in the output.
  top = make "top" ''
    [ "$(${app}/bin/app x)" = "lower says app x" ]
    cp -R ${app}/lib/many work
    chmod -R u+w work
    cat work/file-* | sort >sorted
    mkdir -p $out/tmp $dev/include
    cp sorted $out/tmp/sorted
    mv $out/tmp/sorted $out/sorted
    mv $out/tmp $out/data
    echo "$out" >$dev/include/where
    rm -r work
  '' { outputs = [ "out" "dev" ]; };

  # A new content every time.
  fickle = make "fickle" ''
    mkdir $out
    cat /proc/sys/kernel/random/uuid >$out/uuid
    # As long as the other kind of content, so that only the bytes can tell.
    mkdir $out/dir-$(cut -c1-4 $out/uuid)
  '' { };

  # Another one for each n; two builds of one differ in a uuid alone, which no size or time tells.
  round = { n }: let
    all = make "round-${n}" ''
      mkdir -p $out/deep/deeper $tree/dir
      echo "round ${n}" >$out/text
      ln $out/text $out/deep/hard
      cat /proc/sys/kernel/random/uuid >$out/deep/uuid
      i=0
      while [ $i -lt 30 ]; do echo "$i of ${n}" >$out/deep/deeper/$i; i=$((i + 1)); done
      cp $out/text $file
      ln -s $out $tree/out
      ln -s nowhere $tree/dangling
      cp $out/text $tree/text
      ln -s ../text $tree/dir/text
      ln -s $tree/dir/text $link
    '' { outputs = [ "out" "file" "tree" "link" ]; };
  in map (output: all.${output}) all.outputs;

  # Two kinds of objects that are the same whoever builds them, to be corrupted and repaired.
  soundFile = { n }: make "sound-file-${n}" "echo sound ${n} >$out" { };
  soundDir = { n }: make "sound-dir-${n}" ''
    mkdir -p $out/deep/deeper
    echo sound ${n} >$out/deep/deeper/text
    echo other ${n} >$out/other
    ln $out/other $out/deep/hard
    ln -s deep/deeper/text $out/link
  '' { };

  # Nix copies such an output before it moves it into place.
  fixed = make "fixed" "echo fixed >$out" {
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = "0c3071418e6356e614898c84ed064ca95e88551bc0811b534bdf1952ecdae534";
  };

  failing = make "failing" "mkdir $out; echo partial >$out/file; exit 7" { };

  # Independent builds for several jobs at once.
  several = map (n: make "several-${toString n}" ''
    mkdir $out
    cat ${lower}/share/one >$out/${toString n}
  '' { }) [ 1 2 3 4 5 6 ];
}
